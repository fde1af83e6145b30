#!lua name=tollway

-- Replaces what is visible of a customer, guarded by revision, and signals what changed.
-- Guarantee: balance and access of one key always belong to the same revision, and a transition is
-- signalled exactly once, in the same step that makes it visible.
--
-- KEYS: the signal stream, then one balance hash per row.
-- ARGV: the rows as MessagePack: {revision, access, reason, level, threshold, blocked, live, customer_id,
--       customer_key, as_of, {field, value, ...}, has usage}; the stream's maximum length; the present instant.

local raised

local function signal(stream, limit, key, row, kind, feature, reason, now)
  local sequence = redis.call('HINCRBY', key, 'sequence', 1)
  local id = redis.call('XADD', stream, 'MAXLEN', '~', limit, '*',
    'customer_id', row[8], 'customer', row[9], 'sequence', sequence, 'kind', kind, 'feature', feature,
    'reason', reason, 'live', row[7], 'revision', string.format('%d', row[1]), 'at', now)
  redis.call('PUBLISH', stream, cjson.encode({
    id = id, customer_id = row[8], customer = row[9], sequence = sequence, kind = kind, feature = feature,
    reason = reason, live = row[7], revision = row[1], at = now}))
  raised[#raised + 1] = kind
end

local function put_balances(keys, args)
  local rows, limit, now = cmsgpack.unpack(args[1]), args[2], args[3]
  local stream = keys[1]
  raised = {}
  for index, row in ipairs(rows) do
    local key = keys[index + 1]
    local seen = redis.call('HMGET', key, 'revision', 'access', 'level', 'blocked_features', 'usage')
    if not seen[1] or row[1] >= tonumber(seen[1]) then
      local access, level = seen[2] or 'allowed', tonumber(seen[3] or '0')
      redis.call('HSET', key, 'revision', string.format('%d', row[1]), unpack(row[11]))
      if seen[5] and not row[12] then redis.call('HDEL', key, 'usage') end
      if row[2] ~= access then
        signal(stream, limit, key, row, row[2] == 'blocked' and 'access_blocked' or 'access_allowed', '', row[3], now)
      end
      if row[4] > level then
        local kind = row[5] == '0' and 'credits_exhausted' or 'balance_low'
        signal(stream, limit, key, row, kind, '', row[5], now)
      elseif row[4] < level then
        signal(stream, limit, key, row, 'balance_recovered', '', row[5], now)
      end
      local blocked_before = seen[4] or ''
      if row[6] ~= blocked_before then
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

redis.register_function('tollway_put_balances', put_balances)
