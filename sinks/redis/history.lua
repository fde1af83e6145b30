#!lua name=tollway_history

-- What Redis remembers of the ledger: its generation, the history that it is in, and how many commits of the dataflow it
-- has seen of it, which only grow. A ledger that knows less was restored.

-- KEYS: the record. ARGV: generation; history; commits.
local function put_history(keys, args)
  local seen = redis.call('HMGET', keys[1], 'history', 'commits')
  if seen[1] == args[2] and tonumber(seen[2] or '0') >= tonumber(args[3]) then return 0 end
  redis.call('HSET', keys[1], 'generation', args[1], 'history', args[2], 'commits', args[3])
  return 1
end

-- KEYS: the head of the control log. ARGV: the newest entry that there is; `lower` where an earlier history left the head
-- beyond it, `raise` where it is short of it.
local function move_head(keys, args)
  local head, newest = tonumber(redis.call('GET', keys[1]) or '0'), tonumber(args[1])
  if (args[2] == 'lower' and head > newest) or (args[2] == 'raise' and head < newest) then
    redis.call('SET', keys[1], args[1])
    return 1
  end
  return 0
end

redis.register_function('tollway_put_history', put_history)
redis.register_function('tollway_move_head', move_head)
