PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO _sqlx_migrations VALUES(1,'initial','2026-11-29 00:38:08',1,X'2e058a5d9abf0d624c33b53f562e95d5e671d2d5f9664d82e81d0365bede2312ac965cd5eaffa93dc12cab5a24c59a3c',7547995);
INSERT INTO _sqlx_migrations VALUES(2,'events','2026-11-29 00:38:08',1,X'3159b4d6523bae4cc4774834f4b90e00dea20d936f141bb9e915ef051c1d430ac1956ec0ad733de9a8c7990f0652901a',1520453);
INSERT INTO _sqlx_migrations VALUES(3,'credentials','2026-11-29 00:38:08',1,X'bacc373547719e8e6d7f700cf50201e49c588cf25136628a867f8082968d87fee3a1161e0e8ab2d6344095a2819f3d59',2639719);
INSERT INTO _sqlx_migrations VALUES(4,'scale','2026-11-29 00:38:08',1,X'ac33b36b98131cf4239e8a42460c637ec14b16189c5a9864fb81a8d8c435558badeaca827b4087d14aa80ac7a7903ecb',8079385);
INSERT INTO _sqlx_migrations VALUES(5,'registration','2026-11-29 00:38:08',1,X'176185c2e3c618fbd51e64eb28a54bc99a51763e362f5bb433af1b2f975d9081ff08c27e630a50829131daf295ccecd3',2674440);
INSERT INTO _sqlx_migrations VALUES(6,'evidence','2026-11-29 00:38:08',1,X'49c90e4403d78bb2e30b2ff5c4532c32dc50b89d4c431e261710b6720686008c6b84ee9daaa32c43addcc4c242249506',1079166);
INSERT INTO _sqlx_migrations VALUES(7,'package identities','2026-11-29 00:38:08',1,X'eb2a82624518128bb84e897b03847298c970969541960bbc3e3b98e278fe946a1504bd80c8ab6ab7b63bfc6c7532d6d8',842184);
INSERT INTO _sqlx_migrations VALUES(8,'cancel','2026-11-29 00:38:08',1,X'df3452c0b3f12ed7b1665348c02d5babe4b7c526305445ba06de3ca0a5ac71e453a342e528897a591f1ab52d3e40364b',1114013);
INSERT INTO _sqlx_migrations VALUES(9,'device page','2026-11-29 00:38:08',1,X'7bd8f1e7aeeb1cd058613045258cbd74f705b989b24c2602c2252e80932de4c60a8a4f28d1a9664a036c5872782ba016',1257392);
INSERT INTO _sqlx_migrations VALUES(10,'lists','2026-11-29 00:38:08',1,X'04138f5aedc9efd6369d55e423aaecd37402c6b6445b93597ef8c7df02882ea9851f8bcfe62df4f8c85c36fa617aa356',657839);
INSERT INTO _sqlx_migrations VALUES(11,'newcomers','2026-11-29 00:38:08',1,X'ff605257db610fd05abe68b91bc8cce007c48fca415f9791ca4f69364e942dff3f8251bef8bf7fecea5e7efba9c5e8bc',1294917);
INSERT INTO _sqlx_migrations VALUES(12,'registration message','2026-11-29 00:38:08',1,X'72dd2576e0903392420e5e0fdde022743641a63ba80030f1692ef8d81da6407e3f9ff3b842e56c85a73e7f81e640ecde',1067429);
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('device_revision',X'000000000000000e');
INSERT INTO meta VALUES('instance',X'758b4e23796f92c22bc50b6e89b23a17b60be18e0e6b79bb3869fe389105177e');
INSERT INTO meta VALUES('last_batch',X'4038a89a6e7bbd4700000000000000a5');
INSERT INTO meta VALUES('token_key',X'a5c35a1e8568fb69d5255148223b230989956582a38d45acfc3f09a0778d4edf');
CREATE TABLE packages (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    product       TEXT    NOT NULL,
    version       BLOB    NOT NULL,
    sha256        TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL,
    segment_size  INTEGER NOT NULL,
    pad_last      INTEGER NOT NULL,
    crc           INTEGER NOT NULL,
    check_code    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    superseded_at INTEGER,
    deleted_at    INTEGER
) STRICT;
INSERT INTO packages VALUES(1,'meter',X'56322e30000000000000000000000000','3299b8ef4d07153639fa30684c9db6432ebdb8893bb74a8ee4d603ac2a3273ca',60000,500,0,26625,26625,1795912702930,NULL,NULL);
INSERT INTO packages VALUES(2,'lock',X'56322e30206200000000000000000000','8a4dc6c8904c7b0823da94d2117eecaa03b06db50f6ee60e99f4c438e8dd323b',200000,120,0,50957,50957,1795912702966,NULL,NULL);
CREATE TABLE devices (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint           TEXT    NOT NULL UNIQUE,
    product            TEXT    NOT NULL,
    -- bumped from one counter by the operator's changes only
    revision           INTEGER NOT NULL DEFAULT 0,
    -- 1: removed by the operator, kept until the rollout has seen it
    removed            INTEGER NOT NULL DEFAULT 0,
    created_at         INTEGER NOT NULL,
    last_heard_at      INTEGER,
    reg_location       TEXT,
    reg_peer           TEXT,
    reg_lifetime_s     INTEGER,
    reg_expires_at     INTEGER,
    reg_registered_at  INTEGER,
    reg_queue_mode     INTEGER,
    registered         INTEGER NOT NULL GENERATED ALWAYS AS (reg_location IS NOT NULL) VIRTUAL,
    coverage_cell      INTEGER,
    coverage_rsrp_dbm  INTEGER,
    coverage_sinr_db   INTEGER,
    coverage_at        INTEGER,
    version            BLOB
, secure INTEGER NOT NULL DEFAULT 0, psk_identity TEXT, psk_sealed BLOB, reg_secured INTEGER NOT NULL DEFAULT 0, reg_lwm2m_version TEXT, reg_binding TEXT, reg_objects TEXT, reg_root_path TEXT, evidence TEXT, coverage_source TEXT, reg_ended_at INTEGER, reg_message_id INTEGER) STRICT;
INSERT INTO devices VALUES(1,'sim-000000','meter',1,0,1795912702872,1795912740283,'Dzxfpnm9ya5ojMU','127.0.0.1:58253',300,1795913040279,1795912740279,0,1001,-90,15,1795912738061,X'56322e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,23402);
INSERT INTO devices VALUES(2,'sim-000001','meter',2,0,1795912702872,1795912744430,'RgUofIaVL70s8hI','127.0.0.1:46203',300,1795913044426,1795912744426,0,1002,-100,3,1795912742205,X'56312e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"56322e30000000000000000000000000","taken":false,"commanded":false,"claimed":false,"failed_in":"installation","code":10,"at":1795912744430}]','object',NULL,28766);
INSERT INTO devices VALUES(3,'sim-000002','meter',3,0,1795912702872,1795912746551,'n-RS0WAGgDnJ4rE','127.0.0.1:46852',300,1795913038097,1795912738097,0,1001,-90,15,1795912745345,X'56312e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"56322e30000000000000000000000000","taken":true,"commanded":false,"claimed":false,"failed_in":"installation","code":10,"at":1795912746551}]','object',NULL,55415);
INSERT INTO devices VALUES(4,'sim-000003','meter',4,0,1795912702872,1795912738054,'PoCG5eFoTvbucBI','127.0.0.1:37672',300,1795913038049,1795912738049,0,NULL,NULL,NULL,NULL,X'56322e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,NULL,NULL,54555);
INSERT INTO devices VALUES(5,'sim-000004','meter',5,0,1795912702872,1795912741846,'AiUnfWuknQqvoFE','127.0.0.1:58650',300,1795913041842,1795912741842,0,1001,-90,15,1795912739617,X'56322e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,2259);
INSERT INTO devices VALUES(6,'sim-000005','meter',6,0,1795912702872,1795912740683,'izvtuVAKpSQnQ0A','127.0.0.1:56733',300,1795913038653,1795912738653,0,NULL,NULL,NULL,1795912740683,X'56312e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</19/0>,</19/1>',NULL,NULL,'cell',NULL,15701);
INSERT INTO devices VALUES(7,'sim-000006','meter',7,0,1795912702872,1795912740517,'Hc8KugC5l841K2Q','127.0.0.1:57304',300,1795913040513,1795912740513,0,1001,-90,15,1795912738289,X'56322e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,3444);
INSERT INTO devices VALUES(8,'sim-000007','meter',8,0,1795912702872,1795912741712,'UyxMAgKjRUCnjHo','127.0.0.1:33530',300,1795913039691,1795912739691,0,1002,-90,15,1795912741712,X'56312e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"56322e30000000000000000000000000","taken":false,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795912739699}]','object',NULL,23922);
INSERT INTO devices VALUES(9,'sim-000008','meter',9,0,1795912702872,1795912741915,'jKkJ16UefgfPV4U','127.0.0.1:48806',300,1795913041911,1795912741911,0,1001,-100,3,1795912739686,X'56322e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,62554);
INSERT INTO devices VALUES(10,'sim-000009','meter',10,0,1795912702872,1795912738494,'jxJvRYb1lvzlh0A','127.0.0.1:35548',300,1795913038482,1795912738482,0,1002,-90,15,1795912738491,X'56312e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"56322e30000000000000000000000000","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795912738494}]','object',NULL,37008);
INSERT INTO devices VALUES(11,'slow-000000','meter',11,0,1795912702872,1795912737848,'wiY6LtGtLdlAVwE','127.0.0.1:50322',300,1795913037848,1795912737848,0,2001,-90,15,1795912703124,X'56312e30000000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"56322e30000000000000000000000000","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795912703128}]','object',NULL,43652);
INSERT INTO devices VALUES(12,'slow-000001','meter',12,0,1795912702872,1795912738837,'6HRCxOQezt0spV8','127.0.0.1:34838',300,1795913038837,1795912738837,0,2001,-112,-8,1795912704112,X'5601fe5c310000000000000000000000',0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,22616);
INSERT INTO devices VALUES(13,'never-heard','meter',13,0,1795912702872,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(14,'lock-1','lock',14,0,1795912702895,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,X'415c4200000000000000000000000000',0,NULL,NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE tasks (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT    NOT NULL,
    package_id       INTEGER NOT NULL REFERENCES packages (id),
    state            TEXT    NOT NULL
        CHECK (state IN ('scheduled', 'running', 'stopping', 'stopped', 'finished')),
    start_at         INTEGER NOT NULL,
    retry_attempts   INTEGER NOT NULL,
    retry_interval_s INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    stopped_at       INTEGER,
    ended_at         INTEGER
, hidden INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO tasks VALUES(1,'night',1,'running',1795912703007,1,2,1795912703007,NULL,NULL,0);
INSERT INTO tasks VALUES(2,'later',2,'scheduled',1827448702000,0,0,1795912702966,NULL,NULL,0);
CREATE TABLE upgrades (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id          INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    endpoint         TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    -- 0 waits, 1 runs, 2 has ended
    attempt          INTEGER NOT NULL DEFAULT 0,
    not_before       INTEGER NOT NULL,
    stage_entered_at INTEGER,
    stage_deadline_at INTEGER,
    queued_at        INTEGER,
    slot_deadline_at INTEGER,
    cell             INTEGER,
    cell_limit       INTEGER,
    confirmed        INTEGER NOT NULL DEFAULT 0,
    segment          INTEGER,
    progress_percent INTEGER NOT NULL DEFAULT 0,
    outcome_state    TEXT,
    outcome_reason   TEXT,
    outcome_detail   TEXT,
    outcome_at       INTEGER,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER
, phase INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, cancel_requested_at INTEGER) STRICT;
INSERT INTO upgrades VALUES(1,1,'never-heard','waiting_for_device',1,1795912703007,1795912703028,1795999103028,NULL,NULL,NULL,NULL,0,NULL,0,NULL,NULL,NULL,NULL,1795912703007,1795912703028,NULL,1,0,NULL);
INSERT INTO upgrades VALUES(2,1,'sim-000000','succeeded',1,1795912703007,NULL,NULL,NULL,NULL,1001,50,0,119,100,'succeeded','upgraded','upgraded',1795912740283,1795912703007,1795912703028,1795912740283,2,0,NULL);
INSERT INTO upgrades VALUES(3,1,'sim-000001','failed',2,1795912742195,NULL,NULL,NULL,NULL,1002,10,0,119,100,'failed','upgrade_failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), once, at 2026-11-29T00:39:04.430Z, not acknowledged. Said last: the upgrade report 0x0A (installing the package failed), version "V1.0" (PCP 24) at 2026-11-29T00:39:04.430Z. Heard last at 2026-11-29T00:39:04.430Z',1795912744430,1795912703007,1795912703028,1795912744430,2,0,NULL);
INSERT INTO upgrades VALUES(4,1,'sim-000002','failed',2,1795912745336,NULL,NULL,NULL,NULL,1001,50,0,119,100,'failed','upgrade_failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), 2 times, at 2026-11-29T00:39:10.556Z, acknowledged. Said last: version "V2.0" (PCP 19) at 2026-11-29T00:39:10.559Z. Heard last at 2026-11-29T00:39:10.559Z',1795912750559,1795912703007,1795912703028,1795912750559,2,0,NULL);
INSERT INTO upgrades VALUES(5,1,'sim-000003','succeeded',1,1795912703007,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,100,'succeeded','already_current','the device runs the target version already; nothing was done',1795912738054,1795912703007,1795912703028,1795912738054,2,0,NULL);
INSERT INTO upgrades VALUES(6,1,'sim-000004','succeeded',1,1795912703007,NULL,NULL,NULL,NULL,1001,50,0,119,100,'succeeded','upgraded','upgraded',1795912741846,1795912703007,1795912703028,1795912741846,2,0,NULL);
INSERT INTO upgrades VALUES(7,1,'sim-000005','failed',2,1795912740668,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,'failed','cell_unknown','the device does not tell its cell (/4/0/8), so it cannot be admitted to one. Sent last: the read of /4/0/8, once, at 2026-11-29T00:39:00.679Z, refused with 4.04. Said last: 4.04 to the read of /4/0/8 at 2026-11-29T00:39:00.683Z. Heard last at 2026-11-29T00:39:00.683Z',1795912740683,1795912703007,1795912703028,1795912740683,2,0,NULL);
INSERT INTO upgrades VALUES(8,1,'sim-000006','succeeded',1,1795912703007,NULL,NULL,NULL,NULL,1001,50,0,119,100,'succeeded','upgraded','upgraded',1795912740517,1795912703007,1795912703028,1795912740517,2,0,NULL);
INSERT INTO upgrades VALUES(9,1,'sim-000007','failed',2,1795912741703,NULL,NULL,NULL,NULL,1002,50,0,NULL,0,'failed','notification_refused','the device refused the new version (PCP 20) with 0x04 (low battery). Sent last: the new version (PCP 20), once, at 2026-11-29T00:39:01.713Z, acknowledged. Said last: 0x04 (low battery) to the new version (PCP 20) at 2026-11-29T00:39:01.716Z. Heard last at 2026-11-29T00:39:01.716Z',1795912741716,1795912703007,1795912703028,1795912741716,2,0,NULL);
INSERT INTO upgrades VALUES(10,1,'sim-000008','succeeded',1,1795912703007,NULL,NULL,NULL,NULL,1001,10,0,119,100,'succeeded','upgraded','upgraded',1795912741915,1795912703007,1795912703028,1795912741915,2,0,NULL);
INSERT INTO upgrades VALUES(11,1,'sim-000009','downloading',1,1795912703007,1795912738491,1795916338491,1795912738491,1796517538491,1002,50,1,59,49,NULL,NULL,NULL,NULL,1795912703007,1795912703028,NULL,1,0,NULL);
INSERT INTO upgrades VALUES(12,1,'slow-000000','downloading',1,1795912703007,1795912703125,1795916303125,1795912703124,1796517503124,2001,50,1,36,30,NULL,NULL,NULL,NULL,1795912703007,1795912703028,NULL,1,0,NULL);
INSERT INTO upgrades VALUES(13,1,'slow-000001','waiting_for_slot',1,1795912703007,1795912704112,1796517504112,1795912704112,1796517504112,2001,1,0,NULL,0,NULL,NULL,NULL,NULL,1795912703007,1795912703028,NULL,1,0,NULL);
INSERT INTO upgrades VALUES(14,2,'lock-1','pending',0,1827448702000,NULL,NULL,NULL,NULL,NULL,NULL,0,NULL,0,NULL,NULL,NULL,NULL,1795912702966,NULL,NULL,0,1,NULL);
CREATE TABLE upgrade_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    upgrade_id INTEGER NOT NULL REFERENCES upgrades (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    -- the stage that was entered, 'note', or how the attempt ended
    kind       TEXT    NOT NULL,
    text       TEXT    NOT NULL
) STRICT;
INSERT INTO upgrade_events VALUES(1,1,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(2,2,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(3,3,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(4,4,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(5,5,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(6,6,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(7,7,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(8,8,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(9,9,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(10,10,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(11,11,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(12,12,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(13,13,1795912703028,1,'waiting_for_device','attempt 1 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(14,12,1795912703116,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(15,12,1795912703121,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(16,12,1795912703121,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(17,12,1795912703124,1,'waiting_for_slot','in cell 2001, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(18,12,1795912703125,1,'downloading','slot in cell 2001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(19,12,1795912703128,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(20,13,1795912704105,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(21,13,1795912704109,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(22,13,1795912704110,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(23,13,1795912704112,1,'waiting_for_slot','in cell 2001, where 1 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(24,12,1795912737848,1,'note','registered anew, heard for the first time since the server was started');
INSERT INTO upgrade_events VALUES(25,3,1795912737966,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(26,3,1795912737971,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(27,3,1795912737971,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(28,3,1795912737974,1,'waiting_for_slot','in cell 1002, where 10 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(29,3,1795912737975,1,'downloading','slot in cell 1002 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(30,3,1795912737979,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(31,5,1795912738049,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(32,2,1795912738051,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(33,5,1795912738054,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(34,2,1795912738054,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(35,5,1795912738054,1,'succeeded','the device runs the target version already; nothing was done');
INSERT INTO upgrade_events VALUES(36,2,1795912738054,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(37,2,1795912738061,1,'waiting_for_slot','in cell 1001, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(38,2,1795912738062,1,'downloading','slot in cell 1001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(39,2,1795912738065,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(40,4,1795912738097,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(41,4,1795912738101,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(42,4,1795912738101,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(43,4,1795912738104,1,'waiting_for_slot','in cell 1001, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(44,4,1795912738104,1,'downloading','slot in cell 1001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(45,4,1795912738107,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(46,8,1795912738280,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(47,8,1795912738284,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(48,8,1795912738285,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(49,8,1795912738289,1,'waiting_for_slot','in cell 1001, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(50,8,1795912738289,1,'downloading','slot in cell 1001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(51,8,1795912738292,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(52,11,1795912738482,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(53,11,1795912738487,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(54,11,1795912738488,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(55,11,1795912738491,1,'waiting_for_slot','in cell 1002, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(56,11,1795912738491,1,'downloading','slot in cell 1002 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(57,11,1795912738494,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(58,7,1795912738653,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(59,7,1795912738659,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(60,7,1795912738659,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(61,7,1795912738664,1,'note','the device answered the read of /4/0 with 4.04');
INSERT INTO upgrade_events VALUES(62,7,1795912738665,1,'note','the device answered the read of /4/0/2 with 4.04');
INSERT INTO upgrade_events VALUES(63,7,1795912738665,1,'querying_cell','its cell is not known from what it tells of its coverage: asked for its cell alone (/4/0/8)');
INSERT INTO upgrade_events VALUES(64,7,1795912738668,1,'note','the device answered the read of /4/0/8 with 4.04');
INSERT INTO upgrade_events VALUES(65,7,1795912738668,1,'failed','the device does not tell its cell (/4/0/8), so it cannot be admitted to one. Sent last: the read of /4/0/8, once since the server started at 2026-11-29T00:38:55.780Z, at 2026-11-29T00:38:58.665Z, refused with 4.04. Said last: 4.04 to the read of /4/0/8 at 2026-11-29T00:38:58.668Z. Heard last at 2026-11-29T00:38:58.668Z; the next attempt begins at 2026-11-29T00:39:00.668Z');
INSERT INTO upgrade_events VALUES(66,13,1795912738837,1,'note','registered anew, heard for the first time since the server was started');
INSERT INTO upgrade_events VALUES(67,3,1795912739168,1,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(68,3,1795912739171,1,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(69,3,1795912739173,1,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(70,2,1795912739256,1,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(71,2,1795912739259,1,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(72,2,1795912739261,1,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(73,4,1795912739304,1,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(74,4,1795912739309,1,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(75,4,1795912739311,1,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(76,4,1795912739327,1,'note','reported 0x0A (installing the package failed) in the name of "V2.0" (PCP 24)');
INSERT INTO upgrade_events VALUES(77,4,1795912739332,1,'note','asked which it runs (PCP 19)');
INSERT INTO upgrade_events VALUES(78,4,1795912739332,1,'note','says that it runs "V2.0"; it has reported 0x0A (installing the package failed) (PCP 24), and has not restarted since');
INSERT INTO upgrade_events VALUES(79,8,1795912739489,1,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(80,8,1795912739493,1,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(81,8,1795912739495,1,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(82,6,1795912739609,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(83,6,1795912739613,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(84,6,1795912739614,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(85,6,1795912739617,1,'waiting_for_slot','in cell 1001, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(86,6,1795912739617,1,'downloading','slot in cell 1001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(87,6,1795912739621,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(88,10,1795912739677,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(89,10,1795912739682,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(90,10,1795912739682,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(91,10,1795912739686,1,'waiting_for_slot','in cell 1001, where 10 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(92,10,1795912739686,1,'downloading','slot in cell 1001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(93,10,1795912739690,1,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(94,9,1795912739691,1,'querying_version','registered');
INSERT INTO upgrade_events VALUES(95,9,1795912739695,1,'note','asked for its version (PCP 19), try 1');
INSERT INTO upgrade_events VALUES(96,9,1795912739695,1,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(97,9,1795912739699,1,'waiting_for_slot','in cell 1002, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(98,9,1795912739699,1,'downloading','slot in cell 1002 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(99,9,1795912739703,1,'failed','the device refused the new version (PCP 20) with 0x04 (low battery). Sent last: the new version (PCP 20), once since the server started at 2026-11-29T00:38:55.780Z, at 2026-11-29T00:38:59.699Z, acknowledged. Said last: 0x04 (low battery) to the new version (PCP 20) at 2026-11-29T00:38:59.703Z. Heard last at 2026-11-29T00:38:59.703Z; the next attempt begins at 2026-11-29T00:39:01.703Z');
INSERT INTO upgrade_events VALUES(100,3,1795912740191,1,'note','registered anew: it has restarted');
INSERT INTO upgrade_events VALUES(101,3,1795912740192,1,'note','no result (PCP 24) yet');
INSERT INTO upgrade_events VALUES(102,3,1795912740195,1,'note','asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(103,3,1795912740195,1,'failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), once since the server started at 2026-11-29T00:38:55.780Z, at 2026-11-29T00:39:00.195Z, not acknowledged. Said last: the upgrade report 0x0A (installing the package failed), version "V1.0" (PCP 24) at 2026-11-29T00:39:00.195Z. Heard last at 2026-11-29T00:39:00.195Z; the next attempt begins at 2026-11-29T00:39:02.195Z');
INSERT INTO upgrade_events VALUES(104,2,1795912740279,1,'note','registered anew: it has restarted');
INSERT INTO upgrade_events VALUES(105,2,1795912740279,1,'note','no result (PCP 24) yet');
INSERT INTO upgrade_events VALUES(106,2,1795912740283,1,'note','asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(107,2,1795912740283,1,'succeeded','upgraded');
INSERT INTO upgrade_events VALUES(108,8,1795912740513,1,'note','registered anew: it has restarted');
INSERT INTO upgrade_events VALUES(109,8,1795912740514,1,'note','no result (PCP 24) yet');
INSERT INTO upgrade_events VALUES(110,8,1795912740517,1,'note','asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(111,8,1795912740517,1,'succeeded','upgraded');
INSERT INTO upgrade_events VALUES(112,7,1795912740674,2,'waiting_for_device','attempt 2 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(113,7,1795912740674,2,'querying_version','heard: asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(114,7,1795912740677,2,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(115,7,1795912740679,2,'note','the device answered the read of /4/0 with 4.04');
INSERT INTO upgrade_events VALUES(116,7,1795912740679,2,'note','the device answered the read of /4/0/2 with 4.04');
INSERT INTO upgrade_events VALUES(117,7,1795912740679,2,'querying_cell','its cell is not known from what it tells of its coverage: asked for its cell alone (/4/0/8)');
INSERT INTO upgrade_events VALUES(118,7,1795912740683,2,'note','the device answered the read of /4/0/8 with 4.04');
INSERT INTO upgrade_events VALUES(119,7,1795912740683,2,'failed','the device does not tell its cell (/4/0/8), so it cannot be admitted to one. Sent last: the read of /4/0/8, once, at 2026-11-29T00:39:00.679Z, refused with 4.04. Said last: 4.04 to the read of /4/0/8 at 2026-11-29T00:39:00.683Z. Heard last at 2026-11-29T00:39:00.683Z');
INSERT INTO upgrade_events VALUES(120,6,1795912740819,1,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(121,6,1795912740822,1,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(122,6,1795912740824,1,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(123,10,1795912740888,1,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(124,10,1795912740891,1,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(125,10,1795912740893,1,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(126,9,1795912741706,2,'waiting_for_device','attempt 2 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(127,9,1795912741707,2,'querying_version','heard: asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(128,9,1795912741710,2,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(129,9,1795912741712,2,'waiting_for_slot','in cell 1002, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(130,9,1795912741713,2,'downloading','slot in cell 1002 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(131,9,1795912741716,2,'failed','the device refused the new version (PCP 20) with 0x04 (low battery). Sent last: the new version (PCP 20), once, at 2026-11-29T00:39:01.713Z, acknowledged. Said last: 0x04 (low battery) to the new version (PCP 20) at 2026-11-29T00:39:01.716Z. Heard last at 2026-11-29T00:39:01.716Z');
INSERT INTO upgrade_events VALUES(132,6,1795912741842,1,'note','registered anew: it has restarted');
INSERT INTO upgrade_events VALUES(133,6,1795912741842,1,'note','no result (PCP 24) yet');
INSERT INTO upgrade_events VALUES(134,6,1795912741846,1,'note','asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(135,6,1795912741846,1,'succeeded','upgraded');
INSERT INTO upgrade_events VALUES(136,10,1795912741911,1,'note','registered anew: it has restarted');
INSERT INTO upgrade_events VALUES(137,10,1795912741912,1,'note','no result (PCP 24) yet');
INSERT INTO upgrade_events VALUES(138,10,1795912741915,1,'note','asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(139,10,1795912741915,1,'succeeded','upgraded');
INSERT INTO upgrade_events VALUES(140,11,1795912742108,1,'note','quiet since segment 59: notified again (PCP 20), try 2');
INSERT INTO upgrade_events VALUES(141,3,1795912742199,2,'waiting_for_device','attempt 2 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(142,3,1795912742199,2,'querying_version','heard: asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(143,3,1795912742202,2,'querying_coverage','runs version "V1.0", not "V2.0": asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(144,3,1795912742205,2,'waiting_for_slot','in cell 1002, where 10 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(145,3,1795912742205,2,'downloading','slot in cell 1002 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(146,3,1795912742209,2,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(147,4,1795912743333,1,'note','no result (PCP 24) yet: asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(148,4,1795912743336,1,'note','claimed the target without having restarted 4 times more');
INSERT INTO upgrade_events VALUES(149,4,1795912743336,1,'failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), 2 times since the server started at 2026-11-29T00:38:55.780Z, at 2026-11-29T00:39:03.333Z, acknowledged. Said last: version "V2.0" (PCP 19) at 2026-11-29T00:39:03.336Z. Heard last at 2026-11-29T00:39:03.336Z; the next attempt begins at 2026-11-29T00:39:05.336Z');
INSERT INTO upgrade_events VALUES(150,3,1795912743402,2,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(151,3,1795912743406,2,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(152,3,1795912743407,2,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(153,3,1795912744426,2,'note','registered anew: it has restarted');
INSERT INTO upgrade_events VALUES(154,3,1795912744426,2,'note','no result (PCP 24) yet');
INSERT INTO upgrade_events VALUES(155,3,1795912744430,2,'note','asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(156,3,1795912744430,2,'failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), once, at 2026-11-29T00:39:04.430Z, not acknowledged. Said last: the upgrade report 0x0A (installing the package failed), version "V1.0" (PCP 24) at 2026-11-29T00:39:04.430Z. Heard last at 2026-11-29T00:39:04.430Z');
INSERT INTO upgrade_events VALUES(157,4,1795912745340,2,'waiting_for_device','attempt 2 begins: waiting for the device to be heard');
INSERT INTO upgrade_events VALUES(158,4,1795912745340,2,'querying_version','heard: asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(159,4,1795912745343,2,'note','says that it runs "V2.0"; it has reported 0x0A (installing the package failed) (PCP 24), and has not restarted since');
INSERT INTO upgrade_events VALUES(160,4,1795912745343,2,'querying_coverage','is not believed to run "V2.0" already: asked for its coverage (/4/0)');
INSERT INTO upgrade_events VALUES(161,4,1795912745345,2,'waiting_for_slot','in cell 1001, where 50 may upgrade at once by its coverage: waiting for a slot');
INSERT INTO upgrade_events VALUES(162,4,1795912745345,2,'downloading','slot in cell 1001 granted: notified of "V2.0" (PCP 20), 120 segments of 500 bytes, check code 0x6801');
INSERT INTO upgrade_events VALUES(163,4,1795912745348,2,'downloading','accepted the new version (PCP 20)');
INSERT INTO upgrade_events VALUES(164,4,1795912746528,2,'executing','downloaded (PCP 22)');
INSERT INTO upgrade_events VALUES(165,4,1795912746532,2,'note','told to upgrade (PCP 23)');
INSERT INTO upgrade_events VALUES(166,4,1795912746534,2,'executing','has the command to upgrade');
INSERT INTO upgrade_events VALUES(167,4,1795912746551,2,'note','reported 0x0A (installing the package failed) in the name of "V2.0" (PCP 24)');
INSERT INTO upgrade_events VALUES(168,4,1795912746554,2,'note','asked which it runs (PCP 19)');
INSERT INTO upgrade_events VALUES(169,4,1795912746555,2,'note','says that it runs "V2.0"; it has reported 0x0A (installing the package failed) (PCP 24), and has not restarted since');
INSERT INTO upgrade_events VALUES(170,12,1795912747849,1,'note','quiet since segment 80: notified again (PCP 20)');
INSERT INTO upgrade_events VALUES(171,11,1795912748109,1,'note','quiet since segment 59');
INSERT INTO upgrade_events VALUES(172,11,1795912748112,1,'note','notified again (PCP 20), try 3');
INSERT INTO upgrade_events VALUES(173,12,1795912748854,1,'note','began again at segment 0 after 66 %');
INSERT INTO upgrade_events VALUES(174,4,1795912750556,2,'note','no result (PCP 24) yet: asked for its version (PCP 19)');
INSERT INTO upgrade_events VALUES(175,4,1795912750559,2,'note','claimed the target without having restarted 4 times more');
INSERT INTO upgrade_events VALUES(176,4,1795912750559,2,'failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), 2 times, at 2026-11-29T00:39:10.556Z, acknowledged. Said last: version "V2.0" (PCP 19) at 2026-11-29T00:39:10.559Z. Heard last at 2026-11-29T00:39:10.559Z');
CREATE TABLE cells (
    cell             INTEGER PRIMARY KEY,
    limit_max        INTEGER NOT NULL DEFAULT 0,
    concurrent_peak  INTEGER NOT NULL DEFAULT 0,
    admitted_total   INTEGER NOT NULL DEFAULT 0,
    last_admitted_at INTEGER
, active INTEGER NOT NULL DEFAULT 0, waiting INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO cells VALUES(1001,50,5,6,1795912745345,0,0);
INSERT INTO cells VALUES(1002,50,3,5,1795912742205,1,0);
INSERT INTO cells VALUES(2001,50,1,1,1795912703125,1,1);
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    task_id    INTEGER NOT NULL,
    task_name  TEXT    NOT NULL,
    product    TEXT    NOT NULL,
    version    BLOB    NOT NULL,
    -- of an upgrade
    upgrade_id INTEGER,
    endpoint   TEXT,
    attempts   INTEGER,
    reason     TEXT,
    detail     TEXT,
    cell       INTEGER,
    started_at INTEGER,
    -- of a task
    succeeded  INTEGER,
    failed     INTEGER,
    cancelled  INTEGER
) STRICT;
INSERT INTO events VALUES(1,1795912738054,'upgrade.succeeded',1,'night','meter',X'56322e30000000000000000000000000',5,'sim-000003',1,'already_current','the device runs the target version already; nothing was done',NULL,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(2,1795912740283,'upgrade.succeeded',1,'night','meter',X'56322e30000000000000000000000000',2,'sim-000000',1,'upgraded','upgraded',1001,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(3,1795912740517,'upgrade.succeeded',1,'night','meter',X'56322e30000000000000000000000000',8,'sim-000006',1,'upgraded','upgraded',1001,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(4,1795912740683,'upgrade.failed',1,'night','meter',X'56322e30000000000000000000000000',7,'sim-000005',2,'cell_unknown','the device does not tell its cell (/4/0/8), so it cannot be admitted to one. Sent last: the read of /4/0/8, once, at 2026-11-29T00:39:00.679Z, refused with 4.04. Said last: 4.04 to the read of /4/0/8 at 2026-11-29T00:39:00.683Z. Heard last at 2026-11-29T00:39:00.683Z',NULL,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(5,1795912741716,'upgrade.failed',1,'night','meter',X'56322e30000000000000000000000000',9,'sim-000007',2,'notification_refused','the device refused the new version (PCP 20) with 0x04 (low battery). Sent last: the new version (PCP 20), once, at 2026-11-29T00:39:01.713Z, acknowledged. Said last: 0x04 (low battery) to the new version (PCP 20) at 2026-11-29T00:39:01.716Z. Heard last at 2026-11-29T00:39:01.716Z',1002,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(6,1795912741846,'upgrade.succeeded',1,'night','meter',X'56322e30000000000000000000000000',6,'sim-000004',1,'upgraded','upgraded',1001,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(7,1795912741915,'upgrade.succeeded',1,'night','meter',X'56322e30000000000000000000000000',10,'sim-000008',1,'upgraded','upgraded',1001,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(8,1795912744430,'upgrade.failed',1,'night','meter',X'56322e30000000000000000000000000',3,'sim-000001',2,'upgrade_failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), once, at 2026-11-29T00:39:04.430Z, not acknowledged. Said last: the upgrade report 0x0A (installing the package failed), version "V1.0" (PCP 24) at 2026-11-29T00:39:04.430Z. Heard last at 2026-11-29T00:39:04.430Z',1002,1795912703028,NULL,NULL,NULL);
INSERT INTO events VALUES(9,1795912750559,'upgrade.failed',1,'night','meter',X'56322e30000000000000000000000000',4,'sim-000002',2,'upgrade_failed','the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version query (PCP 19), 2 times, at 2026-11-29T00:39:10.556Z, acknowledged. Said last: version "V2.0" (PCP 19) at 2026-11-29T00:39:10.559Z. Heard last at 2026-11-29T00:39:10.559Z',1001,1795912703028,NULL,NULL,NULL);
CREATE TABLE webhooks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL: every task
    task_id       INTEGER,
    url           TEXT    NOT NULL,
    secret        BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    -- of the first attempt that failed since one did not
    failing_since INTEGER
, pending INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO webhooks VALUES(1,NULL,'http://127.0.0.1:9/hook',X'f1cd30450745e89165f912ecd4809506cce66636c283a4d98eb7d55cf87de72b',1795912702983,1795912738082,9,0);
CREATE TABLE deliveries (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id      INTEGER NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id        INTEGER NOT NULL REFERENCES events (id),
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    -- counts replays; what comes of an attempt from before the last one is not written
    round           INTEGER NOT NULL DEFAULT 0,
    -- since it was created or replayed
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- when it is tried (again)
    next_at         INTEGER NOT NULL,
    -- of the first attempt since it was created or replayed
    first_at        INTEGER,
    last_at         INTEGER,
    last_error      TEXT,
    ended_at        INTEGER
) STRICT;
INSERT INTO deliveries VALUES(1,1,1,'pending',0,1,1795912743085,1795912738082,1795912738082,'the receiver cannot be reached: client error (Connect): tcp connect error: Connection refused (os error 111)',NULL);
INSERT INTO deliveries VALUES(2,1,2,'pending',0,1,1795912748113,1795912743109,1795912743109,'the receiver cannot be reached: client error (Connect): tcp connect error: Connection refused (os error 111)',NULL);
INSERT INTO deliveries VALUES(3,1,3,'pending',0,0,1795912740517,NULL,NULL,NULL,NULL);
INSERT INTO deliveries VALUES(4,1,4,'pending',0,0,1795912740683,NULL,NULL,NULL,NULL);
INSERT INTO deliveries VALUES(5,1,5,'pending',0,0,1795912741716,NULL,NULL,NULL,NULL);
INSERT INTO deliveries VALUES(6,1,6,'pending',0,0,1795912741846,NULL,NULL,NULL,NULL);
INSERT INTO deliveries VALUES(7,1,7,'pending',0,0,1795912741915,NULL,NULL,NULL,NULL);
INSERT INTO deliveries VALUES(8,1,8,'pending',0,0,1795912744430,NULL,NULL,NULL,NULL);
INSERT INTO deliveries VALUES(9,1,9,'pending',0,1,1795912763139,1795912758136,1795912758136,'the receiver cannot be reached: client error (Connect): tcp connect error: Connection refused (os error 111)',NULL);
CREATE TABLE task_counts (
    task_id INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    state   TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (task_id, state)
) STRICT, WITHOUT ROWID;
INSERT INTO task_counts VALUES(1,'downloading',2);
INSERT INTO task_counts VALUES(1,'executing',0);
INSERT INTO task_counts VALUES(1,'failed',4);
INSERT INTO task_counts VALUES(1,'pending',0);
INSERT INTO task_counts VALUES(1,'querying_cell',0);
INSERT INTO task_counts VALUES(1,'querying_coverage',0);
INSERT INTO task_counts VALUES(1,'querying_version',0);
INSERT INTO task_counts VALUES(1,'succeeded',5);
INSERT INTO task_counts VALUES(1,'waiting_for_device',1);
INSERT INTO task_counts VALUES(1,'waiting_for_slot',1);
INSERT INTO task_counts VALUES(2,'pending',1);
CREATE TABLE package_identities (
    product      TEXT    NOT NULL,
    version      BLOB    NOT NULL,
    check_code   INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    segment_size INTEGER NOT NULL,
    -- 1: the last segment is shorter than the others, and filled up
    pad_last     INTEGER NOT NULL,
    PRIMARY KEY (product, version, check_code)
) STRICT, WITHOUT ROWID;
INSERT INTO package_identities VALUES('lock',X'56322e30206200000000000000000000',50957,'8a4dc6c8904c7b0823da94d2117eecaa03b06db50f6ee60e99f4c438e8dd323b',120,0);
INSERT INTO package_identities VALUES('meter',X'56322e30000000000000000000000000',26625,'3299b8ef4d07153639fa30684c9db6432ebdb8893bb74a8ee4d603ac2a3273ca',500,0);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('devices',34);
INSERT INTO sqlite_sequence VALUES('packages',2);
INSERT INTO sqlite_sequence VALUES('webhooks',1);
INSERT INTO sqlite_sequence VALUES('tasks',2);
INSERT INTO sqlite_sequence VALUES('upgrades',14);
INSERT INTO sqlite_sequence VALUES('upgrade_events',176);
INSERT INTO sqlite_sequence VALUES('events',9);
INSERT INTO sqlite_sequence VALUES('deliveries',9);
CREATE UNIQUE INDEX packages_current ON packages (product, version)
    WHERE superseded_at IS NULL AND deleted_at IS NULL;
CREATE INDEX packages_by_version ON packages (product, version);
CREATE INDEX packages_by_content ON packages (sha256);
CREATE INDEX devices_by_registered ON devices (registered, endpoint);
CREATE INDEX devices_by_product_registered ON devices (product, registered, endpoint);
CREATE INDEX devices_by_revision ON devices (revision);
CREATE INDEX devices_removed ON devices (revision) WHERE removed = 1;
CREATE INDEX tasks_by_package ON tasks (package_id, state);
CREATE INDEX tasks_by_state ON tasks (state, start_at);
CREATE INDEX upgrades_by_task ON upgrades (task_id, id);
CREATE INDEX upgrades_by_task_state ON upgrades (task_id, state, id);
CREATE INDEX upgrade_events_by_upgrade ON upgrade_events (upgrade_id, id);
CREATE UNIQUE INDEX events_of_upgrade ON events (upgrade_id) WHERE upgrade_id IS NOT NULL;
CREATE UNIQUE INDEX events_of_task ON events (task_id) WHERE upgrade_id IS NULL;
CREATE INDEX events_by_task ON events (task_id, id);
CREATE INDEX events_by_time ON events (at);
CREATE INDEX webhooks_by_task ON webhooks (task_id);
CREATE INDEX deliveries_due ON deliveries (webhook_id, next_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_by_state ON deliveries (webhook_id, state, id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE state <> 'pending';
CREATE UNIQUE INDEX devices_by_psk_identity ON devices (psk_identity) WHERE psk_identity IS NOT NULL;
CREATE INDEX tasks_hidden ON tasks (id) WHERE hidden = 1;
CREATE INDEX upgrades_running ON upgrades (id) WHERE phase = 1;
CREATE INDEX upgrades_running_on ON upgrades (endpoint, id) WHERE phase = 1;
CREATE INDEX upgrades_waiting_on ON upgrades (endpoint, not_before, id) WHERE phase = 0;
CREATE INDEX upgrades_queued ON upgrades (cell, queued_at, id) WHERE state = 'waiting_for_slot';
CREATE INDEX upgrades_retrying ON upgrades (not_before) WHERE phase = 0 AND attempt > 0;
CREATE INDEX upgrades_next ON upgrades (task_id, not_before, id) WHERE next = 1;
CREATE TRIGGER deliveries_added AFTER INSERT ON deliveries BEGIN
    UPDATE webhooks SET pending = pending + (NEW.state = 'pending'), failed = failed + (NEW.state = 'failed')
        WHERE id = NEW.webhook_id;
END;
CREATE TRIGGER deliveries_changed AFTER UPDATE OF state ON deliveries WHEN OLD.state <> NEW.state BEGIN
    UPDATE webhooks SET pending = pending + (NEW.state = 'pending') - (OLD.state = 'pending'),
        failed = failed + (NEW.state = 'failed') - (OLD.state = 'failed')
        WHERE id = NEW.webhook_id;
END;
CREATE TRIGGER deliveries_deleted AFTER DELETE ON deliveries BEGIN
    UPDATE webhooks SET pending = pending - (OLD.state = 'pending'), failed = failed - (OLD.state = 'failed')
        WHERE id = OLD.webhook_id;
END;
CREATE INDEX devices_by_product ON devices (product, endpoint) WHERE removed = 0;
CREATE INDEX packages_listed ON packages (id) WHERE deleted_at IS NULL;
CREATE INDEX devices_with_key ON devices (endpoint) WHERE psk_identity IS NOT NULL;
CREATE INDEX upgrades_to_cancel ON upgrades (id) WHERE phase = 1 AND cancel_requested_at IS NOT NULL;
CREATE INDEX upgrades_of_device ON upgrades (endpoint, id);
CREATE INDEX upgrades_of_cell ON upgrades (cell, id) WHERE cell IS NOT NULL;
CREATE INDEX packages_of_product ON packages (product, id) WHERE deleted_at IS NULL;
CREATE INDEX devices_by_themselves
    ON devices (MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)))
    WHERE revision = 0 AND removed = 0;
COMMIT;
