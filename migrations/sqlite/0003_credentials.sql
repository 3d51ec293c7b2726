-- 1: it is refused where nothing is encrypted
ALTER TABLE devices ADD COLUMN secure INTEGER NOT NULL DEFAULT 0;
-- its pre-shared key, sealed with the server's credential key
ALTER TABLE devices ADD COLUMN psk_identity TEXT;
ALTER TABLE devices ADD COLUMN psk_sealed BLOB;
-- 1: it was heard last over DTLS
ALTER TABLE devices ADD COLUMN reg_secured INTEGER NOT NULL DEFAULT 0;

CREATE UNIQUE INDEX devices_by_psk_identity ON devices (psk_identity) WHERE psk_identity IS NOT NULL;
