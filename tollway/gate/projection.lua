-- Puts what the gate knows of a customer, guarded by the generation of the ledger and the control-log entry it was read at.
-- Guarantee: an older document never replaces a newer one, and a name leads to one customer at most.
--
-- KEYS: the customer's document; the hash of names; that of ids. ARGV: the generation; the entry id; the document, whose `names` lead
-- to it; the customer's key. Without a document: the one of an earlier generation goes, with its names.
local known = redis.call('GET', KEYS[1])
local generation, version = tonumber(ARGV[1]), tonumber(ARGV[2])
local document = ARGV[3] ~= '' and cjson.decode(ARGV[3])
if known then
  local before = cjson.decode(known)
  local known_generation = before.generation or 0
  if known_generation > generation then return 0 end
  if document then redis.call('HSET', KEYS[3], document.id, ARGV[4]) end
  if known_generation == generation and (not document or before.version > version) then return 0 end
  local kept = {}
  for _, name in ipairs(document and document.names or {}) do kept[name] = true end
  for _, name in ipairs(before.names) do
    if not kept[name] and redis.call('HGET', KEYS[2], name) == ARGV[4] then redis.call('HDEL', KEYS[2], name) end
  end
end
if not document then
  if known then redis.call('HDEL', KEYS[3], cjson.decode(known).id) end
  return redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[3], document.id, ARGV[4])
redis.call('SET', KEYS[1], ARGV[3])
for _, name in ipairs(document.names) do redis.call('HSET', KEYS[2], name, ARGV[4]) end
return 1
