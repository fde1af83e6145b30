#!lua name=tollway

-- Replaces what is visible of a customer, guarded by generation and revision, and signals what changed.
-- Guarantee: balance and access of one key always belong to the same revision, and a transition is
-- signalled exactly once, in the same step that makes it visible.

local raised, generation

local function signal(stream, limit, key, row, kind, feature, reason, now)
  local sequence = redis.call('HINCRBY', key, 'sequence', 1)
  local id = redis.call('XADD', stream, 'MAXLEN', '~', limit, '*',
    'customer_id', row[8], 'customer', row[9], 'sequence', sequence, 'kind', kind, 'feature', feature,
    'reason', reason, 'live', row[7], 'generation', string.format('%d', generation),
    'revision', string.format('%d', row[1]), 'at', now)
  redis.call('PUBLISH', stream, cjson.encode({
    id = id, customer_id = row[8], customer = row[9], sequence = sequence, kind = kind, feature = feature,
    reason = reason, live = row[7], generation = generation, revision = row[1], at = now}))
  raised[#raised + 1] = kind
end

-- Whether a row may replace what is visible: `seen` has its revision, generation and instant. Rows of one customer reach
-- Redis over two connections, and a row of the same revision may differ, as a limit in the catalog changed: the later
-- instant holds then. Instants are texts in UTC, whose order is theirs.
local function gives_way(seen, row)
  if not seen.revision then return true end
  local seen_generation = tonumber(seen.generation or '0')
  if generation ~= seen_generation then return generation > seen_generation end
  local seen_revision = tonumber(seen.revision)
  if row[1] ~= seen_revision then return row[1] > seen_revision end
  return row[10] >= (seen.as_of or '')
end

-- Whether the lowest threshold reached is another one than before, on the side that the level moved to. Where only the
-- customer's thresholds changed, the level counts others: a balance that is at 0 has not run out once more. Both are
-- texts, empty for none; a hash of an earlier release has none of them.
local function passed(before, after, rises)
  if not before then return true end
  local was, is = tonumber(before) or math.huge, tonumber(after) or math.huge
  if rises then return is < was end
  return is > was
end

-- KEYS: the signal stream, then one balance hash per row.
-- ARGV: the rows as MessagePack: {revision, access, reason, level, threshold, blocked, live, customer_id,
--       customer_key, as_of, {field, value, ...}, has usage}; the stream's maximum length; the present instant; the
--       generation.

local function put_balances(keys, args)
  local rows, limit, now = cmsgpack.unpack(args[1]), args[2], args[3]
  local stream = keys[1]
  raised, generation = {}, tonumber(args[4])
  for index, row in ipairs(rows) do
    local key = keys[index + 1]
    local seen = redis.call('HMGET', key, 'revision', 'access', 'level', 'blocked_features', 'usage', 'generation', 'as_of',
      'threshold', 'features_signalled')
    if gives_way({revision = seen[1], generation = seen[6], as_of = seen[7]}, row) then
      local access, level = seen[2] or 'allowed', tonumber(seen[3] or '0')
      redis.call('HSET', key, 'generation', string.format('%d', generation), 'revision', string.format('%d', row[1]),
        unpack(row[11]))
      if seen[5] and not row[12] then redis.call('HDEL', key, 'usage') end
      if row[2] ~= access then
        signal(stream, limit, key, row, row[2] == 'blocked' and 'access_blocked' or 'access_allowed', '', row[3], now)
      end
      if row[4] > level and passed(seen[8], row[5], true) then
        local kind = row[5] == '0' and 'credits_exhausted' or 'balance_low'
        signal(stream, limit, key, row, kind, '', row[5], now)
      elseif row[4] < level and passed(seen[8], row[5], false) then
        signal(stream, limit, key, row, 'balance_recovered', '', row[5], now)
      end
      -- A customer that is blocked as a whole has no list: what was last signalled of features is kept until it goes on.
      local blocked_before = seen[9] or seen[4] or ''
      if row[2] == 'blocked' then
        redis.call('HSET', key, 'features_signalled', blocked_before)
      elseif seen[9] then
        redis.call('HDEL', key, 'features_signalled')
      end
      if row[2] ~= 'blocked' and row[6] ~= blocked_before then
        local before, after = {}, {}
        for feature in string.gmatch(blocked_before, '[^,]+') do before[feature] = true end
        for feature in string.gmatch(row[6], '[^,]+') do
          after[feature] = true
          if not before[feature] then signal(stream, limit, key, row, 'feature_blocked', feature, 'no_credit_available', now) end
        end
        for feature in pairs(before) do
          if not after[feature] then signal(stream, limit, key, row, 'feature_allowed', feature, '', now) end
        end
      end
    end
  end
  return raised
end

-- Shuts out a customer whom the ledger does not know: no row of its history will ever replace what an earlier one said.
-- The hash stays, so that who comes again under that key is signalled as a change, and numbered on.
--
-- KEYS: the signal stream, the balance hash. ARGV: the customer's id; its key; the generation; the stream's maximum
-- length; the present instant; the reason.
local function shut_balance(keys, args)
  local stream, key = keys[1], keys[2]
  raised, generation = {}, tonumber(args[3])
  local seen = redis.call('HMGET', key, 'customer_id', 'generation', 'access')
  if seen[1] == args[1] and tonumber(seen[2] or '0') < generation then
    redis.call('HSET', key, 'generation', args[3], 'revision', '0', 'access', 'blocked', 'reason', args[6],
      'settled', '0', 'live', '0', 'pending', '0', 'overage', '0', 'as_of', args[5])
    redis.call('HDEL', key, 'usage')
    if seen[3] ~= 'blocked' then
      local row = {[1] = 0, [7] = '0', [8] = args[1], [9] = args[2]}
      signal(stream, args[4], key, row, 'access_blocked', '', args[6], args[5])
    end
  end
  return raised
end

redis.register_function('tollway_put_balances', put_balances)
redis.register_function('tollway_shut_balance', shut_balance)
