-- The second factor of people (RFC 6238). 'totp_sealed' is its secret, sealed for its user with the credential key; 'totp_pending' is one
-- that its user has still to confirm. 'totp_step' is the step of the last code that was used: up to it none is good any more.
ALTER TABLE users ADD COLUMN totp_sealed BLOB;
ALTER TABLE users ADD COLUMN totp_pending BLOB;
ALTER TABLE users ADD COLUMN totp_step INTEGER;
-- Whether nothing but a second factor may be set up before there is one.
ALTER TABLE users ADD COLUMN second_factor_required INTEGER NOT NULL DEFAULT 0;
-- Whether the user is kept out.
ALTER TABLE users ADD COLUMN disabled INTEGER NOT NULL DEFAULT 0;

-- Codes that stand for the second factor, each once. 'hash' is the SHA-256 of the user's number and of 80 random bits.
CREATE TABLE recovery_codes (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    PRIMARY KEY (user_id, hash)
) STRICT, WITHOUT ROWID;
