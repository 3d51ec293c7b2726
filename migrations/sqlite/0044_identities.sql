-- Who a user is for an identity provider (OpenID Connect Core §2: 'iss' and 'sub'). Such a user has no password: 'password' is empty.
ALTER TABLE users ADD COLUMN issuer TEXT;
ALTER TABLE users ADD COLUMN subject TEXT;
CREATE UNIQUE INDEX users_by_identity ON users (issuer, subject) WHERE issuer IS NOT NULL;
