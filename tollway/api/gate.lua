-- Puts what the gate knows of a customer, guarded by the control-log entry it was read at.
-- Guarantee: an older document never replaces a newer one, and a name leads to one customer at most.
--
-- KEYS: the customer's document; the hash of names. ARGV: the entry id; the document, whose `names` lead to it; the
-- customer's key.
local known = redis.call('GET', KEYS[1])
local document = cjson.decode(ARGV[2])
if known then
  local before = cjson.decode(known)
  if before.version > tonumber(ARGV[1]) then return 0 end
  local kept = {}
  for _, name in ipairs(document.names) do kept[name] = true end
  for _, name in ipairs(before.names) do
    if not kept[name] and redis.call('HGET', KEYS[2], name) == ARGV[3] then redis.call('HDEL', KEYS[2], name) end
  end
end
redis.call('SET', KEYS[1], ARGV[2])
for _, name in ipairs(document.names) do redis.call('HSET', KEYS[2], name, ARGV[3]) end
return 1
