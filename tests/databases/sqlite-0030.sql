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
INSERT INTO _sqlx_migrations VALUES(1,'initial','2026-11-29 21:46:32',1,X'2e058a5d9abf0d624c33b53f562e95d5e671d2d5f9664d82e81d0365bede2312ac965cd5eaffa93dc12cab5a24c59a3c',15357753);
INSERT INTO _sqlx_migrations VALUES(2,'events','2026-11-29 21:46:32',1,X'3159b4d6523bae4cc4774834f4b90e00dea20d936f141bb9e915ef051c1d430ac1956ec0ad733de9a8c7990f0652901a',16366462);
INSERT INTO _sqlx_migrations VALUES(3,'credentials','2026-11-29 21:46:32',1,X'bacc373547719e8e6d7f700cf50201e49c588cf25136628a867f8082968d87fee3a1161e0e8ab2d6344095a2819f3d59',19955005);
INSERT INTO _sqlx_migrations VALUES(4,'scale','2026-11-29 21:46:32',1,X'ac33b36b98131cf4239e8a42460c637ec14b16189c5a9864fb81a8d8c435558badeaca827b4087d14aa80ac7a7903ecb',39995737);
INSERT INTO _sqlx_migrations VALUES(5,'registration','2026-11-29 21:46:32',1,X'176185c2e3c618fbd51e64eb28a54bc99a51763e362f5bb433af1b2f975d9081ff08c27e630a50829131daf295ccecd3',19945330);
INSERT INTO _sqlx_migrations VALUES(6,'evidence','2026-11-29 21:46:32',1,X'49c90e4403d78bb2e30b2ff5c4532c32dc50b89d4c431e261710b6720686008c6b84ee9daaa32c43addcc4c242249506',11992743);
INSERT INTO _sqlx_migrations VALUES(7,'package identities','2026-11-29 21:46:32',1,X'eb2a82624518128bb84e897b03847298c970969541960bbc3e3b98e278fe946a1504bd80c8ab6ab7b63bfc6c7532d6d8',12018250);
INSERT INTO _sqlx_migrations VALUES(8,'cancel','2026-11-29 21:46:32',1,X'df3452c0b3f12ed7b1665348c02d5babe4b7c526305445ba06de3ca0a5ac71e453a342e528897a591f1ab52d3e40364b',14791461);
INSERT INTO _sqlx_migrations VALUES(9,'device page','2026-11-29 21:46:33',1,X'7bd8f1e7aeeb1cd058613045258cbd74f705b989b24c2602c2252e80932de4c60a8a4f28d1a9664a036c5872782ba016',6076650);
INSERT INTO _sqlx_migrations VALUES(10,'lists','2026-11-29 21:46:33',1,X'04138f5aedc9efd6369d55e423aaecd37402c6b6445b93597ef8c7df02882ea9851f8bcfe62df4f8c85c36fa617aa356',8000769);
INSERT INTO _sqlx_migrations VALUES(11,'newcomers','2026-11-29 21:46:33',1,X'ff605257db610fd05abe68b91bc8cce007c48fca415f9791ca4f69364e942dff3f8251bef8bf7fecea5e7efba9c5e8bc',9680296);
INSERT INTO _sqlx_migrations VALUES(12,'registration message','2026-11-29 21:46:33',1,X'72dd2576e0903392420e5e0fdde022743641a63ba80030f1692ef8d81da6407e3f9ff3b842e56c85a73e7f81e640ecde',25177216);
INSERT INTO _sqlx_migrations VALUES(13,'versions','2026-11-29 21:46:33',1,X'5baacc6a04edf7394fcd7e9ec2badf518468963de8be62d134e74308a2ad06b316b2f73554a5f1f02886b7875e4c190d',161656174);
INSERT INTO _sqlx_migrations VALUES(14,'codes','2026-11-29 21:46:33',1,X'ed79843330d9a4c35c58f3740cdd4539b10cab8a7c6883c4c2d525aed74030cb2eeed962a69f90a7535274a936bf9643',10909412);
INSERT INTO _sqlx_migrations VALUES(15,'progress','2026-11-29 21:46:33',1,X'b344ed81c9ce53be86562675747ad3f10baf5f824dad910b4ce9a34e442f0e36f3a63d1851031899549eb382d6fad93e',30925758);
INSERT INTO _sqlx_migrations VALUES(16,'free','2026-11-29 21:46:33',1,X'469fe4b5e702d5a8e8efa413a8c02955372f279d00a0249b8c56c61b174af08f2bcdf0e9c816bfc05166ff8cc92b3264',25534196);
INSERT INTO _sqlx_migrations VALUES(17,'rhythm','2026-11-29 21:46:33',1,X'dfd1a2baf7cafa6c8681b31ced8d5a8f119228a8f7bf2c783b68aa65b3da7e651ff38087d113c74059f407f18aa7b0f1',6439280);
INSERT INTO _sqlx_migrations VALUES(18,'attributes','2026-11-29 21:46:33',1,X'b7057fd21f1bac93f8f11de2c59b8381d4b32e38f2e314b9a5c1fbcfc0334c0268a3da75215d0f839449ba8709680c52',43062144);
INSERT INTO _sqlx_migrations VALUES(19,'groups','2026-11-29 21:46:33',1,X'ceb82744bddc3e099d9f77872785d08dfd651099ae9415abfd3f07e8c8fa0ed6cd743121676db6f37ca831a9e859c220',16570495);
INSERT INTO _sqlx_migrations VALUES(20,'exclusions','2026-11-29 21:46:33',1,X'4517cef8d5c9d06be01f1f01fe577f7fb69beaf39af365e0bc2cd48f018c42002224a58ba3137f1174e84dbf7e9ccb7b',3706538);
INSERT INTO _sqlx_migrations VALUES(21,'cells','2026-11-29 21:46:33',1,X'72bb83af868be0fcde1b4e2f007fde5e87857b31775eb97f8995b66a82b03e9be949bc7e21c255b48aa9f80b4696827a',54026638);
INSERT INTO _sqlx_migrations VALUES(22,'habits','2026-11-29 21:46:33',1,X'711aed36e089784635c2cc8ab25390e975f42aaf2ae2a332ab31babd5713369956fe7fb8b23070dbdfb1fc0b2feea01d',11979503);
INSERT INTO _sqlx_migrations VALUES(23,'task rules','2026-11-29 21:46:33',1,X'596ed71411ce7c7e4ed492fc54a3449d05d0772fabdf6014ce6716ee5610bff93d91221ec532fe175c3c6960e076bedb',50924638);
INSERT INTO _sqlx_migrations VALUES(24,'membership','2026-11-29 21:46:33',1,X'8e8183f4adaf34ee10e202f252448619fdeb4ff134595058cb0132665f2de16bcb8228478ce18a0517d8a899573ab37f',51973697);
INSERT INTO _sqlx_migrations VALUES(25,'task packages','2026-11-29 21:46:33',1,X'58311647b5d74152ee27de20c970fe72d734a056381b3f1de36e7d189d3b028632fdb50b692fae4bf54472585e8b639e',21650825);
INSERT INTO _sqlx_migrations VALUES(26,'soak','2026-11-29 21:46:33',1,X'464b30c99f0824d4952c5c49c739bab57fb00c3087e773a6ab294bf271560f0c6bbd5d32d161bdae14841dbd9a4e10ee',19944449);
INSERT INTO _sqlx_migrations VALUES(27,'series','2026-11-29 21:46:33',1,X'2d723a72118d34fac56956749d907831036da437cd0919385f8368916f7194926e9dbdb7c88b661b25d53a1c7ed72eb3',6617584);
INSERT INTO _sqlx_migrations VALUES(28,'answers','2026-11-29 21:46:33',1,X'7b9f42df8b98b9b129e37560658eb5bb4a420e8231ad3aaf470a89ba249d55297aac1569d2a35bd21953788e86cc9e03',1505998);
INSERT INTO _sqlx_migrations VALUES(29,'adaptive','2026-11-29 21:46:33',1,X'66505b29fe2b06922963e17b77e70a54a0b9b07a3098fa0db10557946f7dbe269d5f636c91b95e48cd122c05a464e9e9',16208507);
INSERT INTO _sqlx_migrations VALUES(30,'confirmation','2026-11-29 21:46:33',1,X'fa55426d8c9c7a64eb6d9590f0e8814d0c2f1352639c286cbd19e50e6017fca1deba7d4f02d17984d76814c747d35612',8218914);
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES('credential_key_check',X'2f772def9093fb581c66d6cb4bcb9f82e58e1fafa02ac521edc28de3');
INSERT INTO meta VALUES('device_revision',X'0000000000000018');
INSERT INTO meta VALUES('instance',X'05d1ac47668b1aa8faa7508911dac872baecfd9afaa6f87ff45e90ae3dadab1a');
INSERT INTO meta VALUES('last_batch',X'ac5a5651d1da425f0000000000000077');
INSERT INTO meta VALUES('token_key',X'426443484c2952c1ac74292a1796eb89c2c376b9895dcff0551844c876a80360');
CREATE TABLE packages (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    product       TEXT    NOT NULL,
    sha256        TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL,
    segment_size  INTEGER NOT NULL,
    pad_last      INTEGER NOT NULL,
    crc           INTEGER NOT NULL,
    check_code    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    superseded_at INTEGER,
    deleted_at    INTEGER
, version TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO packages VALUES(1,'demo','d1ab1bcc15501eb7c1ce12fbf182379bb8186d4ed8cd69fa8383bddababdd2fc',24576,500,0,23060,23060,1795988794859,NULL,NULL,'V2.0');
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
    secure INTEGER NOT NULL DEFAULT 0, psk_identity TEXT, psk_sealed BLOB, reg_secured INTEGER NOT NULL DEFAULT 0, reg_lwm2m_version TEXT, reg_binding TEXT, reg_objects TEXT, reg_root_path TEXT, evidence TEXT, coverage_source TEXT, reg_ended_at INTEGER, reg_message_id INTEGER, version TEXT, wake_ups TEXT, appointment TEXT, model TEXT, hardware TEXT, site TEXT, time_zone TEXT) STRICT;
INSERT INTO devices VALUES(1,'demo-000000','demo',1,0,1795988794828,1795988796903,'WUBYIkf_mNZdd8g','127.0.0.1:44621',86400,1796075196566,1795988796566,0,1001,-90,15,1795988795545,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,194,'V2.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(2,'demo-000001','demo',2,0,1795988794828,1795988797079,'dNFfNXkamGKgWPU','127.0.0.1:56507',86400,1796075196680,1795988796680,0,1002,-90,15,1795988797055,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988797079}]','object',NULL,8048,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(3,'demo-000002','demo',3,0,1795988794828,1795988796886,'w11BuK2qWB9dWUg','127.0.0.1:43556',86400,1796075196557,1795988796557,0,1003,-90,15,1795988795535,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,34861,'V2.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(4,'demo-000003','demo',4,0,1795988794828,1795988796886,'DbRCSSK_hR2XClc','127.0.0.1:37899',86400,1796075196581,1795988796581,0,1001,-90,15,1795988795545,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,17723,'V2.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(5,'demo-000004','demo',5,0,1795988794828,1795988797003,'MMwbT-xDGWb5rCk','127.0.0.1:54067',86400,1796075196836,1795988796836,0,1002,-90,15,1795988795682,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,16639,'V2.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(6,'demo-000005','demo',6,0,1795988794828,1795988797121,'rUQhl6qC6y9dWuc','127.0.0.1:48382',86400,1796075196103,1795988796103,0,1003,-90,15,1795988796187,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797121}]','object',NULL,38365,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(7,'demo-000006','demo',7,0,1795988794828,1795988797079,'esS_7R7GUMtTRxI','127.0.0.1:50088',86400,1796075196803,1795988796803,0,1001,-90,15,1795988797055,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988797079}]','object',NULL,32492,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(8,'demo-000007','demo',8,0,1795988794828,1795988797079,'GGyFNeiP--whB7Y','127.0.0.1:44160',86400,1796075195937,1795988795937,0,1002,-90,15,1795988796027,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797079}]','object',NULL,54809,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(9,'demo-000008','demo',9,0,1795988794828,1795988797031,'8SsTtLyah74_Cb8','127.0.0.1:57547',86400,1796075196402,1795988796402,0,1003,-90,15,1795988796615,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988797031}]','object',NULL,33929,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(10,'demo-000009','demo',10,0,1795988794828,1795988797031,'y55FXJXUVi84B5U','127.0.0.1:41930',86400,1796075196323,1795988796323,0,1008,-90,15,1795988796617,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988797031}]','object',NULL,59762,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(11,'demo-000010','demo',11,0,1795988794828,1795988796182,'Yxl-hJ8aU7E_zzE','127.0.0.1:45452',86400,1796075196131,1795988796131,0,1004,-100,3,1795988794965,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,NULL,'object',NULL,10603,'V2.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(12,'demo-000011','demo',12,0,1795988794828,1795988797182,'m9mnCvSIrgH1EPM','127.0.0.1:35140',86400,1796075196021,1795988796021,0,1005,-100,3,1795988796147,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797182}]','object',NULL,48144,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(13,'demo-000012','demo',13,0,1795988794828,1795988795319,'4EHX_iMEZmBAd8s','127.0.0.1:45815',86400,1796075195205,1795988795205,0,NULL,NULL,NULL,1795988795319,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</19/0>,</19/1>',NULL,NULL,'cell',NULL,3953,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(14,'demo-000013','demo',14,0,1795988794828,1795988797317,'OmnZRf7yIw6xZYU','127.0.0.1:35408',86400,1796075196827,1795988796827,0,1005,-100,3,1795988796997,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797317}]','object',NULL,39883,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(15,'demo-000014','demo',15,0,1795988794828,1795988796182,'SKcS-nXem4-oDiw','127.0.0.1:36188',86400,1796075196014,1795988796014,0,1004,-100,3,1795988796147,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988796182}]','object',NULL,8886,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(16,'demo-000015','demo',16,0,1795988794828,1795988797287,'b7EuNPMnFDXa80U','127.0.0.1:47620',86400,1796075196131,1795988796131,0,1006,NULL,NULL,1795988796271,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797287}]','object',NULL,37103,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(17,'demo-000016','demo',17,0,1795988794828,1795988797031,'9cd5n7nX_vC4cTY','127.0.0.1:48582',86400,1796075196503,1795988796503,0,1006,NULL,NULL,1795988796891,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988797031}]','object',NULL,18840,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(18,'demo-000017','demo',18,0,1795988794828,1795988797263,'L3pTseSFcM-zXl8','127.0.0.1:33174',86400,1796075196190,1795988796190,0,1006,80,NULL,1795988796444,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797263}]','object',NULL,59847,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(19,'demo-000018','demo',19,0,1795988794828,1795988795748,'g4tRRno5FxUDf5g','127.0.0.1:43577',86400,1796075195728,1795988795728,0,1007,-112,-8,1795988795747,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":false,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988795748}]','object',NULL,26974,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(20,'demo-000019','demo',20,0,1795988794828,1795988796887,'mDTJAR1yRNawl2E','127.0.0.1:53984',86400,1796075196260,1795988796260,0,1008,-112,-8,1795988796546,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988796887}]','object',NULL,8864,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(21,'demo-000020','demo',21,0,1795988794828,1795988797301,'eUw-JT4EQn3HezE','127.0.0.1:33033',86400,1796075196388,1795988796388,0,1001,-90,15,1795988796617,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":true,"claimed":false,"failed_in":null,"code":null,"at":1795988797301}]','object',NULL,51510,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(22,'demo-000021','demo',22,0,1795988794828,1795988796542,'jcsEBLYQhpJi1X4','127.0.0.1:44287',86400,1796075196479,1795988796479,0,1002,-90,15,1795988795323,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":false,"commanded":false,"claimed":false,"failed_in":"installation","code":10,"at":1795988796542}]','object',NULL,25256,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(23,'demo-000022','demo',23,0,1795988794828,1795988797031,'wzdsEr4idbA_Nrw','127.0.0.1:53259',86400,1796075196455,1795988796455,0,1003,-90,15,1795988796887,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":true,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988797031}]','object',NULL,23437,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO devices VALUES(24,'demo-000023','demo',24,0,1795988794828,1795988795088,'ckuES2rpstULoQs','127.0.0.1:47192',86400,1796075195076,1795988795076,0,1001,-90,15,1795988795088,0,NULL,NULL,0,'1.0','U','</1/0>,</3/0>,</4/0>,</19/0>,</19/1>',NULL,'[{"version":"V2.0","taken":false,"commanded":false,"claimed":false,"failed_in":null,"code":null,"at":1795988795088}]','object',NULL,45854,'V1.0',NULL,NULL,NULL,NULL,NULL,NULL);
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
, hidden INTEGER NOT NULL DEFAULT 0, group_id INTEGER, excluded INTEGER NOT NULL DEFAULT 0, rules TEXT, hold TEXT, phase INTEGER NOT NULL DEFAULT 0, expired INTEGER NOT NULL DEFAULT 0, resumed_with TEXT, revision INTEGER NOT NULL DEFAULT 1, soft_stop INTEGER NOT NULL DEFAULT 0, retry_reasons TEXT, approval TEXT, exclude_filter TEXT, exclude_group INTEGER, exclude_devices INTEGER NOT NULL DEFAULT 0, left_out INTEGER NOT NULL DEFAULT 0, may_join INTEGER NOT NULL DEFAULT 0, selected_by TEXT, joining INTEGER
    GENERATED ALWAYS AS (IIF(rules ->> '$.membership' = 'joining', 1, 0)) VIRTUAL, packages TEXT) STRICT;
INSERT INTO tasks VALUES(1,'demo',1,'running',1795988794869,0,0,1795988794869,NULL,NULL,0,NULL,0,NULL,NULL,0,0,NULL,1,0,NULL,NULL,NULL,NULL,0,0,1,NULL,NULL);
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
    outcome_state    TEXT,
    outcome_reason   TEXT,
    outcome_detail   TEXT,
    outcome_at       INTEGER,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER
, phase INTEGER NOT NULL DEFAULT 0, free INTEGER NOT NULL DEFAULT 0, cancel_requested_at INTEGER, outcome_arguments TEXT, bytes_done INTEGER, bytes_total INTEGER NOT NULL DEFAULT 0, kept_awake_s INTEGER NOT NULL DEFAULT 0, kept_awake_pings INTEGER NOT NULL DEFAULT 0, lot INTEGER NOT NULL DEFAULT 0, attempts_before INTEGER NOT NULL DEFAULT 0, package_id INTEGER, step INTEGER NOT NULL DEFAULT 1, unconfirmed INTEGER NOT NULL DEFAULT 0) STRICT;
INSERT INTO upgrades VALUES(1,1,'demo-000000','succeeded',1,1795988794869,NULL,NULL,NULL,NULL,1001,50,0,'succeeded','upgraded',NULL,1795988796903,1795988794869,1795988794898,1795988796903,2,0,NULL,'{}',24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(2,1,'demo-000001','downloading',1,1795988794869,1795988797071,1795992397071,1795988797055,1796593597055,1002,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794897,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(3,1,'demo-000002','succeeded',1,1795988794869,NULL,NULL,NULL,NULL,1003,50,0,'succeeded','upgraded',NULL,1795988796886,1795988794869,1795988794898,1795988796886,2,0,NULL,'{}',24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(4,1,'demo-000003','succeeded',1,1795988794869,NULL,NULL,NULL,NULL,1001,50,0,'succeeded','upgraded',NULL,1795988796886,1795988794869,1795988794898,1795988796886,2,0,NULL,'{}',24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(5,1,'demo-000004','succeeded',1,1795988794869,NULL,NULL,NULL,NULL,1002,50,0,'succeeded','upgraded',NULL,1795988797003,1795988794869,1795988794897,1795988797003,2,0,NULL,'{}',24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(6,1,'demo-000005','executing',1,1795988794869,1795988797118,1795990597118,1795988796187,1796593596187,1003,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(7,1,'demo-000006','downloading',1,1795988794869,1795988797071,1795992397071,1795988797055,1796593597055,1001,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794897,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(8,1,'demo-000007','executing',1,1795988794869,1795988797071,1795990597071,1795988796027,1796593596027,1002,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794897,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(9,1,'demo-000008','downloading',1,1795988794869,1795988796617,1795992396617,1795988796615,1796593596615,1003,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(10,1,'demo-000009','downloading',1,1795988794869,1795988796620,1795992396620,1795988796617,1796593596617,1008,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(11,1,'demo-000010','succeeded',1,1795988794869,NULL,NULL,NULL,NULL,1004,10,0,'succeeded','upgraded',NULL,1795988796182,1795988794869,1795988794898,1795988796182,2,0,NULL,'{}',24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(12,1,'demo-000011','executing',1,1795988794869,1795988797177,1795990597177,1795988796147,1796593596147,1005,10,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(13,1,'demo-000012','failed',1,1795988794869,NULL,NULL,NULL,NULL,NULL,NULL,0,'failed','cell_unknown',NULL,1795988795319,1795988794869,1795988794897,1795988795319,2,0,NULL,'{"last":{"sent":{"message":"read","path":"/4/0/8","times":1,"at":"2026-11-29T21:46:35.279Z","fate":"refused","answer":"4.04"},"said":{"message":"read_answer","path":"/4/0/8","answer":"4.04","at":"2026-11-29T21:46:35.319Z"},"heard_at":"2026-11-29T21:46:35.319Z"}}',NULL,0,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(14,1,'demo-000013','executing',1,1795988794869,1795988797313,1795990597313,1795988796997,1796593596997,1005,10,1,NULL,NULL,NULL,NULL,1795988794869,1795988794897,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(15,1,'demo-000014','downloading',1,1795988794869,1795988796150,1795992396150,1795988796147,1796593596147,1004,10,1,NULL,NULL,NULL,NULL,1795988794869,1795988794897,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(16,1,'demo-000015','executing',1,1795988794869,1795988797284,1795990597284,1795988796271,1796593596271,1006,10,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(17,1,'demo-000016','downloading',1,1795988794869,1795988796903,1795992396903,1795988796891,1796593596891,1006,10,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(18,1,'demo-000017','executing',1,1795988794869,1795988797260,1795990597260,1795988796444,1796593596444,1006,10,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(19,1,'demo-000018','failed',1,1795988794869,NULL,NULL,NULL,NULL,1007,1,0,'failed','notification_refused',NULL,1795988795761,1795988794869,1795988794898,1795988795761,2,0,NULL,'{"result":4,"last":{"sent":{"message":"new_version","times":1,"at":"2026-11-29T21:46:35.748Z","fate":"acknowledged"},"said":{"message":"new_version_answer","result":4,"at":"2026-11-29T21:46:35.761Z"},"heard_at":"2026-11-29T21:46:35.761Z"}}',NULL,0,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(20,1,'demo-000019','downloading',1,1795988794869,1795988796551,1795992396551,1795988796546,1796593596546,1008,1,1,NULL,NULL,NULL,NULL,1795988794869,1795988794897,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(21,1,'demo-000020','executing',1,1795988794869,1795988797296,1795990597296,1795988796617,1796593596617,1001,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(22,1,'demo-000021','failed',1,1795988794869,NULL,NULL,NULL,NULL,1002,50,0,'failed','upgrade_failed',NULL,1795988796542,1795988794869,1795988794898,1795988796542,2,0,NULL,'{"result":10,"last":{"sent":{"message":"command","times":1,"at":"2026-11-29T21:46:35.843Z","fate":"acknowledged"},"said":{"message":"upgrade_report","result":10,"version":"V1.0","at":"2026-11-29T21:46:36.542Z"},"heard_at":"2026-11-29T21:46:36.542Z"}}',24576,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(23,1,'demo-000022','downloading',1,1795988794869,1795988796903,1795992396903,1795988796887,1796593596887,1003,50,1,NULL,NULL,NULL,NULL,1795988794869,1795988794898,NULL,1,0,NULL,NULL,0,24576,0,0,0,0,NULL,1,0);
INSERT INTO upgrades VALUES(24,1,'demo-000023','failed',1,1795988794869,NULL,NULL,NULL,NULL,1001,50,0,'failed','notification_refused',NULL,1795988795092,1795988794869,1795988794897,1795988795092,2,0,NULL,'{"result":2,"last":{"sent":{"message":"new_version","times":1,"at":"2026-11-29T21:46:35.088Z","fate":"acknowledged"},"said":{"message":"new_version_answer","result":2,"at":"2026-11-29T21:46:35.092Z"},"heard_at":"2026-11-29T21:46:35.092Z"}}',NULL,0,0,0,0,0,NULL,1,0);
CREATE TABLE upgrade_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    upgrade_id INTEGER NOT NULL REFERENCES upgrades (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    -- the stage that was entered, 'note', or how the attempt ended
    kind       TEXT    NOT NULL,
    arguments       TEXT    NOT NULL
, code TEXT NOT NULL DEFAULT 'legacy') STRICT;
INSERT INTO upgrade_events VALUES(1,1,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(2,2,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(3,5,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(4,7,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(5,8,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(6,13,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(7,14,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(8,15,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(9,20,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(10,24,1795988794897,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(11,3,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(12,4,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(13,6,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(14,9,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(15,10,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(16,11,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(17,12,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(18,16,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(19,17,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(20,18,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(21,19,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(22,21,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(23,22,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(24,23,1795988794898,1,'waiting_for_device','{"attempt":1}','attempt_begun');
INSERT INTO upgrade_events VALUES(25,11,1795988794957,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(26,11,1795988794961,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(27,11,1795988794962,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(28,11,1795988794965,1,'waiting_for_slot','{"cell":1004,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(29,11,1795988794965,1,'downloading','{"cell":1004,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(30,11,1795988794968,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(31,24,1795988795076,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(32,24,1795988795085,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(33,24,1795988795086,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(34,24,1795988795088,1,'waiting_for_slot','{"cell":1001,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(35,24,1795988795088,1,'downloading','{"cell":1001,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(36,24,1795988795092,1,'failed','{"reason":"notification_refused","result":2,"last":{"sent":{"message":"new_version","times":1,"at":"2026-11-29T21:46:35.088Z","fate":"acknowledged"},"said":{"message":"new_version_answer","result":2,"at":"2026-11-29T21:46:35.092Z"},"heard_at":"2026-11-29T21:46:35.092Z"}}','ended');
INSERT INTO upgrade_events VALUES(37,13,1795988795205,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(38,13,1795988795224,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(39,13,1795988795231,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(40,22,1795988795239,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(41,13,1795988795272,1,'note','{"path":"/4/0","answer":"4.04"}','read_refused');
INSERT INTO upgrade_events VALUES(42,13,1795988795279,1,'note','{"path":"/4/0/2","answer":"4.04"}','read_refused');
INSERT INTO upgrade_events VALUES(43,13,1795988795279,1,'querying_cell','{"asked":"cell"}','cell_not_told');
INSERT INTO upgrade_events VALUES(44,22,1795988795280,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(45,22,1795988795283,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(46,13,1795988795319,1,'note','{"path":"/4/0/8","answer":"4.04"}','read_refused');
INSERT INTO upgrade_events VALUES(47,13,1795988795319,1,'failed','{"reason":"cell_unknown","last":{"sent":{"message":"read","path":"/4/0/8","times":1,"at":"2026-11-29T21:46:35.279Z","fate":"refused","answer":"4.04"},"said":{"message":"read_answer","path":"/4/0/8","answer":"4.04","at":"2026-11-29T21:46:35.319Z"},"heard_at":"2026-11-29T21:46:35.319Z"}}','ended');
INSERT INTO upgrade_events VALUES(48,22,1795988795323,1,'waiting_for_slot','{"cell":1002,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(49,22,1795988795326,1,'downloading','{"cell":1002,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(50,11,1795988795377,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(51,22,1795988795399,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(52,11,1795988795467,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(53,3,1795988795514,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(54,11,1795988795520,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(55,3,1795988795527,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(56,3,1795988795527,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(57,1,1795988795530,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(58,4,1795988795533,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(59,3,1795988795535,1,'waiting_for_slot','{"cell":1003,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(60,3,1795988795535,1,'downloading','{"cell":1003,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(61,1,1795988795539,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(62,1,1795988795539,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(63,4,1795988795539,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(64,4,1795988795540,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(65,3,1795988795542,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(66,1,1795988795545,1,'waiting_for_slot','{"cell":1001,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(67,1,1795988795545,1,'downloading','{"cell":1001,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(68,4,1795988795545,1,'waiting_for_slot','{"cell":1001,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(69,4,1795988795546,1,'downloading','{"cell":1001,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(70,1,1795988795549,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(71,4,1795988795549,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(72,5,1795988795670,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(73,5,1795988795678,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(74,5,1795988795678,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(75,5,1795988795682,1,'waiting_for_slot','{"cell":1002,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(76,5,1795988795683,1,'downloading','{"cell":1002,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(77,5,1795988795697,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(78,19,1795988795728,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(79,19,1795988795737,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(80,19,1795988795737,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(81,19,1795988795747,1,'waiting_for_slot','{"cell":1007,"limit":1}','queued');
INSERT INTO upgrade_events VALUES(82,19,1795988795748,1,'downloading','{"cell":1007,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(83,19,1795988795761,1,'failed','{"reason":"notification_refused","result":4,"last":{"sent":{"message":"new_version","times":1,"at":"2026-11-29T21:46:35.748Z","fate":"acknowledged"},"said":{"message":"new_version_answer","result":4,"at":"2026-11-29T21:46:35.761Z"},"heard_at":"2026-11-29T21:46:35.761Z"}}','ended');
INSERT INTO upgrade_events VALUES(84,22,1795988795831,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(85,22,1795988795843,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(86,22,1795988795847,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(87,3,1795988795871,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(88,4,1795988795872,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(89,1,1795988795876,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(90,3,1795988795881,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(91,4,1795988795923,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(92,1,1795988795923,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(93,3,1795988795931,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(94,8,1795988795937,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(95,4,1795988795946,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(96,1,1795988795946,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(97,8,1795988795970,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(98,8,1795988795972,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(99,15,1795988796014,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(100,12,1795988796021,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(101,8,1795988796027,1,'waiting_for_slot','{"cell":1002,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(102,8,1795988796028,1,'downloading','{"cell":1002,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(103,12,1795988796096,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(104,15,1795988796096,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(105,12,1795988796100,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(106,15,1795988796100,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(107,6,1795988796103,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(108,5,1795988796115,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(109,8,1795988796115,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(110,16,1795988796131,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(111,11,1795988796131,1,'note','{"why":"restarted"}','registered_anew');
INSERT INTO upgrade_events VALUES(112,6,1795988796147,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(113,12,1795988796147,1,'waiting_for_slot','{"cell":1005,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(114,15,1795988796147,1,'waiting_for_slot','{"cell":1004,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(115,6,1795988796150,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(116,15,1795988796150,1,'downloading','{"cell":1004,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(117,12,1795988796150,1,'downloading','{"cell":1005,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(118,5,1795988796162,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(119,6,1795988796187,1,'waiting_for_slot','{"cell":1003,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(120,11,1795988796182,1,'succeeded','{"reason":"upgraded"}','ended');
INSERT INTO upgrade_events VALUES(121,16,1795988796182,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(122,12,1795988796182,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(123,15,1795988796182,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(124,6,1795988796190,1,'downloading','{"cell":1003,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(125,18,1795988796190,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(126,16,1795988796195,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(127,5,1795988796218,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(128,20,1795988796260,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(129,6,1795988796263,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(130,18,1795988796263,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(131,18,1795988796271,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(132,16,1795988796271,1,'waiting_for_slot','{"cell":1006,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(133,16,1795988796282,1,'downloading','{"cell":1006,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(134,10,1795988796323,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(135,21,1795988796388,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(136,9,1795988796402,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(137,18,1795988796444,1,'waiting_for_slot','{"cell":1006,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(138,23,1795988796455,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(139,18,1795988796463,1,'downloading','{"cell":1006,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(140,16,1795988796472,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(141,20,1795988796472,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(142,22,1795988796479,1,'note','{"why":"restarted"}','registered_anew');
INSERT INTO upgrade_events VALUES(143,20,1795988796479,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(144,17,1795988796503,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(145,21,1795988796511,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(146,10,1795988796511,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(147,9,1795988796511,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(148,9,1795988796511,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(149,10,1795988796511,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(150,21,1795988796512,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(151,23,1795988796546,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(152,20,1795988796546,1,'waiting_for_slot','{"cell":1008,"limit":1}','queued');
INSERT INTO upgrade_events VALUES(153,17,1795988796546,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(154,18,1795988796542,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(155,22,1795988796542,1,'failed','{"reason":"upgrade_failed","result":10,"last":{"sent":{"message":"command","times":1,"at":"2026-11-29T21:46:35.843Z","fate":"acknowledged"},"said":{"message":"upgrade_report","result":10,"version":"V1.0","at":"2026-11-29T21:46:36.542Z"},"heard_at":"2026-11-29T21:46:36.542Z"}}','ended');
INSERT INTO upgrade_events VALUES(156,20,1795988796551,1,'downloading','{"cell":1008,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(157,3,1795988796557,1,'note','{"why":"restarted"}','registered_anew');
INSERT INTO upgrade_events VALUES(158,23,1795988796557,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(159,17,1795988796557,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(160,1,1795988796566,1,'note','{"why":"restarted"}','registered_anew');
INSERT INTO upgrade_events VALUES(161,4,1795988796581,1,'note','{"why":"restarted"}','registered_anew');
INSERT INTO upgrade_events VALUES(162,9,1795988796615,1,'waiting_for_slot','{"cell":1003,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(163,21,1795988796617,1,'waiting_for_slot','{"cell":1001,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(164,9,1795988796617,1,'downloading','{"cell":1003,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(165,10,1795988796617,1,'waiting_for_slot','{"cell":1008,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(166,21,1795988796619,1,'downloading','{"cell":1001,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(167,10,1795988796620,1,'downloading','{"cell":1008,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(168,2,1795988796680,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(169,7,1795988796803,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(170,14,1795988796827,1,'querying_version','{}','registered');
INSERT INTO upgrade_events VALUES(171,5,1795988796836,1,'note','{"why":"restarted"}','registered_anew');
INSERT INTO upgrade_events VALUES(172,3,1795988796886,1,'succeeded','{"reason":"upgraded"}','ended');
INSERT INTO upgrade_events VALUES(173,4,1795988796886,1,'succeeded','{"reason":"upgraded"}','ended');
INSERT INTO upgrade_events VALUES(174,20,1795988796887,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(175,23,1795988796887,1,'waiting_for_slot','{"cell":1003,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(176,17,1795988796891,1,'waiting_for_slot','{"cell":1006,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(177,1,1795988796903,1,'succeeded','{"reason":"upgraded"}','ended');
INSERT INTO upgrade_events VALUES(178,23,1795988796903,1,'downloading','{"cell":1003,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(179,17,1795988796903,1,'downloading','{"cell":1006,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(180,14,1795988796985,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(181,21,1795988796988,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(182,14,1795988796988,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(183,14,1795988796997,1,'waiting_for_slot','{"cell":1005,"limit":10}','queued');
INSERT INTO upgrade_events VALUES(184,14,1795988796997,1,'downloading','{"cell":1005,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(185,14,1795988797001,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(186,5,1795988797003,1,'succeeded','{"reason":"upgraded"}','ended');
INSERT INTO upgrade_events VALUES(187,2,1795988797003,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(188,7,1795988797003,1,'note','{"asked":"version","try":1}','asked');
INSERT INTO upgrade_events VALUES(189,17,1795988797031,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(190,10,1795988797031,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(191,2,1795988797031,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(192,7,1795988797031,1,'querying_coverage','{"version":"V1.0","target":"V2.0","asked":"coverage"}','runs_other_version');
INSERT INTO upgrade_events VALUES(193,23,1795988797031,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(194,9,1795988797031,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(195,7,1795988797055,1,'waiting_for_slot','{"cell":1001,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(196,2,1795988797055,1,'waiting_for_slot','{"cell":1002,"limit":50}','queued');
INSERT INTO upgrade_events VALUES(197,7,1795988797071,1,'downloading','{"cell":1001,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(198,2,1795988797071,1,'downloading','{"cell":1002,"asked":"to_download","new_version":"V2.0","segments":50,"segment_size":500,"check_code":23060}','slot_granted');
INSERT INTO upgrade_events VALUES(199,8,1795988797071,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(200,7,1795988797079,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(201,2,1795988797079,1,'downloading','{}','version_accepted');
INSERT INTO upgrade_events VALUES(202,8,1795988797079,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(203,8,1795988797099,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(204,6,1795988797118,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(205,6,1795988797121,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(206,6,1795988797123,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(207,12,1795988797177,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(208,12,1795988797182,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(209,12,1795988797185,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(210,18,1795988797260,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(211,18,1795988797263,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(212,18,1795988797268,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(213,16,1795988797284,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(214,16,1795988797287,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(215,16,1795988797289,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(216,21,1795988797296,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(217,21,1795988797301,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(218,21,1795988797302,1,'executing','{}','command_delivered');
INSERT INTO upgrade_events VALUES(219,14,1795988797313,1,'executing','{}','downloaded');
INSERT INTO upgrade_events VALUES(220,14,1795988797317,1,'note','{"asked":"to_upgrade"}','asked');
INSERT INTO upgrade_events VALUES(221,14,1795988797318,1,'executing','{}','command_delivered');
CREATE TABLE cells (
    cell             INTEGER PRIMARY KEY,
    limit_max        INTEGER NOT NULL DEFAULT 0,
    concurrent_peak  INTEGER NOT NULL DEFAULT 0,
    admitted_total   INTEGER NOT NULL DEFAULT 0,
    last_admitted_at INTEGER
, active INTEGER NOT NULL DEFAULT 0, waiting INTEGER NOT NULL DEFAULT 0, own_limit INTEGER, closing TEXT, outage TEXT, busy_hours TEXT, note TEXT, revision INTEGER NOT NULL DEFAULT 0, succeeded INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, adaptive INTEGER) STRICT;
INSERT INTO cells VALUES(1001,50,3,5,1795988797071,2,0,NULL,NULL,NULL,NULL,NULL,0,2,1,NULL);
INSERT INTO cells VALUES(1002,50,3,4,1795988797071,2,0,NULL,NULL,NULL,NULL,NULL,0,1,1,NULL);
INSERT INTO cells VALUES(1003,50,3,4,1795988796903,3,0,NULL,NULL,NULL,NULL,NULL,0,1,0,NULL);
INSERT INTO cells VALUES(1004,10,2,2,1795988796150,1,0,NULL,NULL,NULL,NULL,NULL,0,1,0,NULL);
INSERT INTO cells VALUES(1005,10,2,2,1795988796997,2,0,NULL,NULL,NULL,NULL,NULL,0,0,0,NULL);
INSERT INTO cells VALUES(1006,10,3,3,1795988796903,3,0,NULL,NULL,NULL,NULL,NULL,0,0,0,NULL);
INSERT INTO cells VALUES(1007,1,1,1,1795988795748,0,0,NULL,NULL,NULL,NULL,NULL,0,0,1,NULL);
INSERT INTO cells VALUES(1008,50,2,2,1795988796620,2,0,NULL,NULL,NULL,NULL,NULL,0,0,0,NULL);
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    task_id    INTEGER NOT NULL,
    task_name  TEXT    NOT NULL,
    product    TEXT    NOT NULL,
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
, version TEXT NOT NULL DEFAULT '', arguments TEXT) STRICT;
INSERT INTO events VALUES(1,1795988795092,'upgrade.failed',1,'demo','demo',24,'demo-000023',1,'notification_refused',NULL,1001,1795988794897,NULL,NULL,NULL,'V2.0','{"result":2,"last":{"sent":{"message":"new_version","times":1,"at":"2026-11-29T21:46:35.088Z","fate":"acknowledged"},"said":{"message":"new_version_answer","result":2,"at":"2026-11-29T21:46:35.092Z"},"heard_at":"2026-11-29T21:46:35.092Z"}}');
INSERT INTO events VALUES(2,1795988795319,'upgrade.failed',1,'demo','demo',13,'demo-000012',1,'cell_unknown',NULL,NULL,1795988794897,NULL,NULL,NULL,'V2.0','{"last":{"sent":{"message":"read","path":"/4/0/8","times":1,"at":"2026-11-29T21:46:35.279Z","fate":"refused","answer":"4.04"},"said":{"message":"read_answer","path":"/4/0/8","answer":"4.04","at":"2026-11-29T21:46:35.319Z"},"heard_at":"2026-11-29T21:46:35.319Z"}}');
INSERT INTO events VALUES(3,1795988795761,'upgrade.failed',1,'demo','demo',19,'demo-000018',1,'notification_refused',NULL,1007,1795988794898,NULL,NULL,NULL,'V2.0','{"result":4,"last":{"sent":{"message":"new_version","times":1,"at":"2026-11-29T21:46:35.748Z","fate":"acknowledged"},"said":{"message":"new_version_answer","result":4,"at":"2026-11-29T21:46:35.761Z"},"heard_at":"2026-11-29T21:46:35.761Z"}}');
INSERT INTO events VALUES(4,1795988796182,'upgrade.succeeded',1,'demo','demo',11,'demo-000010',1,'upgraded',NULL,1004,1795988794898,NULL,NULL,NULL,'V2.0','{}');
INSERT INTO events VALUES(5,1795988796542,'upgrade.failed',1,'demo','demo',22,'demo-000021',1,'upgrade_failed',NULL,1002,1795988794898,NULL,NULL,NULL,'V2.0','{"result":10,"last":{"sent":{"message":"command","times":1,"at":"2026-11-29T21:46:35.843Z","fate":"acknowledged"},"said":{"message":"upgrade_report","result":10,"version":"V1.0","at":"2026-11-29T21:46:36.542Z"},"heard_at":"2026-11-29T21:46:36.542Z"}}');
INSERT INTO events VALUES(6,1795988796886,'upgrade.succeeded',1,'demo','demo',3,'demo-000002',1,'upgraded',NULL,1003,1795988794898,NULL,NULL,NULL,'V2.0','{}');
INSERT INTO events VALUES(7,1795988796886,'upgrade.succeeded',1,'demo','demo',4,'demo-000003',1,'upgraded',NULL,1001,1795988794898,NULL,NULL,NULL,'V2.0','{}');
INSERT INTO events VALUES(8,1795988796903,'upgrade.succeeded',1,'demo','demo',1,'demo-000000',1,'upgraded',NULL,1001,1795988794898,NULL,NULL,NULL,'V2.0','{}');
INSERT INTO events VALUES(9,1795988797003,'upgrade.succeeded',1,'demo','demo',5,'demo-000004',1,'upgraded',NULL,1002,1795988794897,NULL,NULL,NULL,'V2.0','{}');
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
CREATE TABLE IF NOT EXISTS "package_identities" (
    product      TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    check_code   INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    segment_size INTEGER NOT NULL,
    -- 1: the last segment is shorter than the others, and filled up
    pad_last     INTEGER NOT NULL,
    PRIMARY KEY (product, version, check_code)
) STRICT, WITHOUT ROWID;
INSERT INTO package_identities VALUES('demo','V2.0',23060,'d1ab1bcc15501eb7c1ce12fbf182379bb8186d4ed8cd69fa8383bddababdd2fc',500,0);
CREATE TABLE device_tags (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    key       TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    PRIMARY KEY (device_id, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE device_groups (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    -- its canonical text; NULL: a list
    filter     TEXT,
    -- of a list, as they come and go
    members    INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    -- 1: nobody sees it; its members are being deleted, part by part
    removed    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE group_members (
    group_id INTEGER NOT NULL REFERENCES device_groups (id) ON DELETE CASCADE,
    endpoint TEXT    NOT NULL,
    PRIMARY KEY (group_id, endpoint)
) STRICT, WITHOUT ROWID;
CREATE TABLE exclusions (
    endpoint TEXT    NOT NULL PRIMARY KEY,
    reason   TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE habits (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (kind, key)
) STRICT;
INSERT INTO habits VALUES(1,'cell','1004/10','{"sum":17,"count":1}');
INSERT INTO habits VALUES(2,'limit','10','{"sum":17,"count":1}');
INSERT INTO habits VALUES(3,'cell','1002/50','{"sum":21,"count":1}');
INSERT INTO habits VALUES(4,'limit','50','{"sum":21,"count":1}');
INSERT INTO habits VALUES(5,'cell','1001/50','{"sum":13,"count":1}');
INSERT INTO habits VALUES(6,'cell','1003/50','{"sum":14,"count":1}');
INSERT INTO habits VALUES(8,'product','','{"answered_ms":0,"silent_ms":null,"tries_after":64,"install_ms":{"sum":1015,"count":1}}');
INSERT INTO habits VALUES(9,'cell','1005/10','{"sum":42,"count":1}');
INSERT INTO habits VALUES(10,'cell','1006/10','{"sum":34,"count":1}');
CREATE TABLE task_lots (
    task_id   INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    lot       INTEGER NOT NULL,
    phase     INTEGER NOT NULL,
    -- of its devices, where that matters
    zone      TEXT, soak_s INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, lot)
) STRICT, WITHOUT ROWID;
INSERT INTO task_lots VALUES(1,0,0,NULL,0);
CREATE TABLE IF NOT EXISTS "task_counts" (
    task_id INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    state   TEXT    NOT NULL,
    lot     INTEGER NOT NULL,
    -- '' but of failures
    reason  TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (task_id, state, lot, reason)
) STRICT, WITHOUT ROWID;
INSERT INTO task_counts VALUES(1,'downloading',0,'',8);
INSERT INTO task_counts VALUES(1,'executing',0,'',7);
INSERT INTO task_counts VALUES(1,'failed',0,'cell_unknown',1);
INSERT INTO task_counts VALUES(1,'failed',0,'notification_refused',2);
INSERT INTO task_counts VALUES(1,'failed',0,'upgrade_failed',1);
INSERT INTO task_counts VALUES(1,'pending',0,'',0);
INSERT INTO task_counts VALUES(1,'querying_cell',0,'',0);
INSERT INTO task_counts VALUES(1,'querying_coverage',0,'',0);
INSERT INTO task_counts VALUES(1,'querying_version',0,'',0);
INSERT INTO task_counts VALUES(1,'succeeded',0,'',5);
INSERT INTO task_counts VALUES(1,'waiting_for_device',0,'',0);
INSERT INTO task_counts VALUES(1,'waiting_for_slot',0,'',0);
CREATE TABLE task_excluded (
    task_id  INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    endpoint TEXT    NOT NULL,
    PRIMARY KEY (task_id, endpoint)
) STRICT, WITHOUT ROWID;
CREATE TABLE task_packages (
    package_id INTEGER NOT NULL REFERENCES packages (id),
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    PRIMARY KEY (package_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE soaks (
    upgrade_id INTEGER PRIMARY KEY REFERENCES upgrades (id) ON DELETE CASCADE,
    task_id    INTEGER NOT NULL,
    lot        INTEGER NOT NULL,
    endpoint   TEXT    NOT NULL,
    -- the version that the upgrade led to
    target     TEXT    NOT NULL,
    began_at   INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    -- when there is something to do about it; NULL: it has ended
    next_at    INTEGER,
    state      TEXT    NOT NULL DEFAULT 'soaking' CHECK (state IN ('soaking', 'healthy', 'unhealthy')),
    ended_at   INTEGER
) STRICT;
CREATE TABLE soak_counts (
    task_id INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    state   TEXT    NOT NULL,
    lot     INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (task_id, state, lot)
) STRICT, WITHOUT ROWID;
CREATE TABLE task_series (
    task_id   INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL,
    waiting   INTEGER NOT NULL,
    running   INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    -- upgrades that would have ended by then, by the newest forecast
    expected  INTEGER,
    PRIMARY KEY (task_id, at)
) STRICT, WITHOUT ROWID;
CREATE TABLE cell_series (
    cell      INTEGER NOT NULL,
    hour      INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    active    INTEGER NOT NULL,
    waiting   INTEGER NOT NULL,
    -- since the cell is known
    admitted  INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    PRIMARY KEY (cell, hour)
) STRICT, WITHOUT ROWID;
CREATE TABLE device_series (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL,
    cell      INTEGER,
    rsrp_dbm  INTEGER,
    sinr_db   INTEGER,
    PRIMARY KEY (device_id, at)
) STRICT, WITHOUT ROWID;
INSERT INTO device_series VALUES(1,1795988795545,1001,-90,15);
INSERT INTO device_series VALUES(2,1795988797055,1002,-90,15);
INSERT INTO device_series VALUES(3,1795988795535,1003,-90,15);
INSERT INTO device_series VALUES(4,1795988795545,1001,-90,15);
INSERT INTO device_series VALUES(5,1795988795682,1002,-90,15);
INSERT INTO device_series VALUES(6,1795988796187,1003,-90,15);
INSERT INTO device_series VALUES(7,1795988797055,1001,-90,15);
INSERT INTO device_series VALUES(8,1795988796027,1002,-90,15);
INSERT INTO device_series VALUES(9,1795988796615,1003,-90,15);
INSERT INTO device_series VALUES(10,1795988796617,1008,-90,15);
INSERT INTO device_series VALUES(11,1795988794965,1004,-100,3);
INSERT INTO device_series VALUES(12,1795988796147,1005,-100,3);
INSERT INTO device_series VALUES(13,1795988795279,NULL,NULL,NULL);
INSERT INTO device_series VALUES(13,1795988795319,NULL,NULL,NULL);
INSERT INTO device_series VALUES(14,1795988796997,1005,-100,3);
INSERT INTO device_series VALUES(15,1795988796147,1004,-100,3);
INSERT INTO device_series VALUES(16,1795988796271,1006,NULL,NULL);
INSERT INTO device_series VALUES(17,1795988796891,1006,NULL,NULL);
INSERT INTO device_series VALUES(18,1795988796444,1006,80,NULL);
INSERT INTO device_series VALUES(19,1795988795747,1007,-112,-8);
INSERT INTO device_series VALUES(20,1795988796546,1008,-112,-8);
INSERT INTO device_series VALUES(21,1795988796617,1001,-90,15);
INSERT INTO device_series VALUES(22,1795988795323,1002,-90,15);
INSERT INTO device_series VALUES(23,1795988796887,1003,-90,15);
INSERT INTO device_series VALUES(24,1795988795088,1001,-90,15);
CREATE TABLE answers (
    key     TEXT    NOT NULL PRIMARY KEY,
    -- SHA-256 of what was asked
    request BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    -- NULL: nobody knows yet
    status  INTEGER,
    -- a JSON list of names and values
    headers TEXT,
    body    BLOB
) STRICT, WITHOUT ROWID;
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('devices',54);
INSERT INTO sqlite_sequence VALUES('packages',1);
INSERT INTO sqlite_sequence VALUES('tasks',1);
INSERT INTO sqlite_sequence VALUES('upgrades',24);
INSERT INTO sqlite_sequence VALUES('upgrade_events',221);
INSERT INTO sqlite_sequence VALUES('events',9);
INSERT INTO sqlite_sequence VALUES('deliveries',0);
INSERT INTO sqlite_sequence VALUES('habits',10);
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
CREATE INDEX upgrades_of_cell ON upgrades (cell, id) WHERE cell IS NOT NULL;
CREATE INDEX packages_of_product ON packages (product, id) WHERE deleted_at IS NULL;
CREATE INDEX devices_by_themselves
    ON devices (MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)))
    WHERE revision = 0 AND removed = 0;
CREATE UNIQUE INDEX packages_current ON packages (product, version)
    WHERE superseded_at IS NULL AND deleted_at IS NULL;
CREATE INDEX packages_by_version ON packages (product, version);
CREATE INDEX devices_by_model ON devices (model, endpoint) WHERE model IS NOT NULL;
CREATE INDEX devices_by_site ON devices (site, endpoint) WHERE site IS NOT NULL;
CREATE INDEX device_tags_by_value ON device_tags (key, value, device_id);
CREATE UNIQUE INDEX device_groups_by_name ON device_groups (name) WHERE removed = 0;
CREATE INDEX group_members_by_endpoint ON group_members (endpoint, group_id);
CREATE TRIGGER group_members_added AFTER INSERT ON group_members BEGIN
    UPDATE device_groups SET members = members + 1 WHERE id = NEW.group_id;
END;
CREATE TRIGGER group_members_removed AFTER DELETE ON group_members BEGIN
    UPDATE device_groups SET members = members - 1 WHERE id = OLD.group_id;
END;
CREATE TRIGGER devices_removed_from_groups AFTER UPDATE OF removed ON devices WHEN NEW.removed = 1 BEGIN
    DELETE FROM group_members WHERE endpoint = NEW.endpoint;
END;
CREATE INDEX tasks_of_group ON tasks (group_id, id) WHERE group_id IS NOT NULL;
CREATE INDEX cells_by_revision ON cells (revision) WHERE revision > 0;
CREATE INDEX upgrades_with_slot ON upgrades (cell, id) WHERE state IN ('downloading', 'executing');
CREATE INDEX upgrades_free ON upgrades (task_id, lot, not_before, id) WHERE free = 1;
CREATE UNIQUE INDEX events_of_upgrade ON events (upgrade_id, at, kind) WHERE upgrade_id IS NOT NULL;
CREATE UNIQUE INDEX events_of_task ON events (task_id, at, kind) WHERE upgrade_id IS NULL;
CREATE INDEX tasks_without_group ON tasks (exclude_group, id) WHERE exclude_group IS NOT NULL;
CREATE INDEX upgrades_of_device ON upgrades (endpoint, id, task_id);
CREATE INDEX task_packages_of_task ON task_packages (task_id, package_id);
CREATE INDEX soaks_by_time ON soaks (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX soaks_of_device ON soaks (endpoint) WHERE next_at IS NOT NULL;
CREATE INDEX cells_busy ON cells (cell) WHERE active > 0 OR waiting > 0;
CREATE TRIGGER devices_measured AFTER UPDATE OF coverage_at ON devices
WHEN NEW.coverage_at IS NOT NULL AND NEW.coverage_at IS NOT OLD.coverage_at BEGIN
    INSERT OR REPLACE INTO device_series (device_id, at, cell, rsrp_dbm, sinr_db)
        VALUES (NEW.id, NEW.coverage_at, NEW.coverage_cell, NEW.coverage_rsrp_dbm, NEW.coverage_sinr_db);
    DELETE FROM device_series WHERE device_id = NEW.id
        AND at <= (SELECT s.at FROM device_series s WHERE s.device_id = NEW.id ORDER BY s.at DESC LIMIT 1 OFFSET 50);
END;
CREATE INDEX answers_by_age ON answers (at, key);
COMMIT;
