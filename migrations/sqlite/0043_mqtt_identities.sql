-- What devices speak, and how those show who they are that speak MQTT. 'protocol' is a name of ledger::Protocol.
-- 'mqtt_credential' is 'secret', 'token' or 'certificate'. The secret, or the token with its password, is sealed (JSON).
-- No two devices have the same token: 'mqtt_token_hash' is a hash under a key that is made of the credential key.
ALTER TABLE devices ADD COLUMN protocol TEXT NOT NULL DEFAULT 'lwm2m';
ALTER TABLE devices ADD COLUMN mqtt_credential TEXT;
ALTER TABLE devices ADD COLUMN mqtt_token_hash BLOB;
ALTER TABLE devices ADD COLUMN mqtt_sealed BLOB;
CREATE UNIQUE INDEX devices_by_mqtt_token ON devices (mqtt_token_hash) WHERE mqtt_token_hash IS NOT NULL;
CREATE INDEX devices_over_mqtt ON devices (endpoint) WHERE mqtt_credential IS NOT NULL;
