//! Webhooks' secrets in the file.

use super::*;
use crate::{
    store::{NewTenant, Tenancy as _, UnreadableSecret, WebhookId, webhook_secret},
    tenant::TenantId,
    vault::Vault,
};

const SECRET: &[u8] = b"thirty-two bytes that nobody saw";

fn webhook(vault: Option<&Vault>) -> NewWebhook {
    NewWebhook {
        tenant: None,
        task: None,
        url: "https://hooks.example.com/".to_owned(),
        secret: SECRET.to_vec(),
        vault: vault.cloned(),
        created_at: UtcMillis(0),
    }
}

/// Whether a part of the secret stands in a file of the database.
fn is_on_disk(dir: &Path) -> bool {
    let names = [FILE_NAME.to_owned(), format!("{FILE_NAME}-wal")];
    let files = names.map(|name| std::fs::read(dir.join(name)).unwrap_or_default());
    (files.iter()).any(|file| file.windows(12).any(|part| part == &SECRET[..12]))
}

#[tokio::test]
async fn secrets_are_sealed_for_their_webhooks_also_those_of_before() {
    let (store, dir) = open().await;
    let vault = Vault::new([7; 32]);
    let sealed = store.add_webhook(&webhook(Some(&vault))).await.unwrap().id;
    assert!(!is_on_disk(dir.path()), "what is sealed is never written");
    let mut ids = vec![sealed];
    for _ in 0..20 {
        ids.push(store.add_webhook(&webhook(None)).await.unwrap().id);
    }
    assert!(is_on_disk(dir.path()));
    // up to migration 39 they were sealed for any webhook
    let mut of_before = b"sealed1:".to_vec();
    of_before.extend(vault.seal("webhook", SECRET).unwrap());
    sqlx::query("UPDATE webhooks SET secret = ? WHERE id = ?")
        .bind(of_before)
        .bind(ids[20].0)
        .execute(&store.writer)
        .await
        .unwrap();
    assert_eq!(store.seal_webhook_secrets(&vault).await.unwrap(), 20);
    assert_eq!(store.seal_webhook_secrets(&vault).await.unwrap(), 0);
    assert!(!is_on_disk(dir.path()), "nothing is left of what was");
    for (n, id) in ids.iter().enumerate() {
        let stored = store.webhook_secret(*id).await.unwrap().unwrap();
        let open = |id, vault| webhook_secret(id, &stored, vault);
        assert_eq!(open(*id, Some(&vault)).unwrap(), SECRET);
        let other = ids[(n + 1) % ids.len()];
        assert_eq!(open(other, Some(&vault)), Err(UnreadableSecret));
    }
    store.close().await;
    let path = dir.path().join(FILE_NAME);
    let mut file = DatabaseFile::open(&path).await.unwrap();
    assert_eq!(file.open_secrets().await.unwrap(), 0);
    // a copy has no more of it
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    file.copy_to(&copy.join(FILE_NAME)).await.unwrap();
    assert!(!is_on_disk(&copy));
}

#[tokio::test]
async fn what_another_key_has_sealed_stays_and_the_rest_is_sealed() {
    let (store, dir) = open().await;
    let mut lost = b"sealed1:".to_vec();
    lost.extend(Vault::new([8; 32]).seal("webhook", SECRET).unwrap());
    let lost = NewWebhook {
        secret: lost,
        ..webhook(None)
    };
    let lost = store.add_webhook(&lost).await.unwrap().id;
    store.add_webhook(&webhook(None)).await.unwrap();
    let vault = Vault::new([7; 32]);
    assert_eq!(store.seal_webhook_secrets(&vault).await.unwrap(), 1);
    let stored = store.webhook_secret(lost).await.unwrap().unwrap();
    let opened = webhook_secret(lost, &stored, Some(&vault));
    assert_eq!(opened, Err(UnreadableSecret));
    store.close().await;
    let path = dir.path().join(FILE_NAME);
    let mut file = DatabaseFile::open(&path).await.unwrap();
    assert_eq!(file.open_secrets().await.unwrap(), 0, "it is no open one");
}

#[tokio::test]
async fn copies_of_rows_that_were_lengthened_are_written_over() {
    let (store, dir) = open().await;
    let acme: TenantId = "acme".parse().unwrap();
    let tenant = NewTenant {
        id: acme.clone(),
        name: "Acme".to_owned(),
        created_at: UtcMillis(0),
    };
    store.add_tenant(&tenant).await.unwrap();
    let mut ids = Vec::new();
    // no more than 50 are told the same
    for (tenant, count) in [
        (None, 34),
        (Some(TenantId::default()), 33),
        (Some(acme), 33),
    ] {
        for _ in 0..count {
            let new = NewWebhook {
                tenant: tenant.clone(),
                ..webhook(None)
            };
            ids.push(store.add_webhook(&new).await.unwrap().id);
        }
    }
    // attempts fail and work, and a row moves within its page
    for failing_since in [Some(1), None, Some(1_790_000_000_000_i64), None] {
        sqlx::query("UPDATE webhooks SET failing_since = ? WHERE id % 3 = 1")
            .bind(failing_since)
            .execute(&store.writer)
            .await
            .unwrap();
    }
    let delivery = "PRAGMA foreign_keys = OFF; \
         INSERT INTO deliveries (webhook_id, event_id, state, next_at) VALUES (7, 1, 'pending', 0); \
         PRAGMA foreign_keys = ON";
    sqlx::raw_sql(delivery)
        .execute(&store.writer)
        .await
        .unwrap();
    let vault = Vault::new([7; 32]);
    assert_eq!(store.seal_webhook_secrets(&vault).await.unwrap(), 100);
    assert!(!is_on_disk(dir.path()));
    // they are what they were, and so is what refers to them
    let listed = store.webhooks(None, None, 1_000).await.unwrap().items;
    let listed: Vec<WebhookId> = listed.iter().map(|it| it.id).collect();
    assert_eq!(listed, ids);
    let kept: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT webhook_id, w.pending FROM deliveries d JOIN webhooks w ON w.id = d.webhook_id",
    )
    .fetch_all(&store.readers)
    .await
    .unwrap();
    assert_eq!(kept, [(7, 1)]);
    let enforced: i64 = sqlx::query_scalar("PRAGMA foreign_keys")
        .fetch_one(&store.writer)
        .await
        .unwrap();
    assert_eq!(enforced, 1);
    let more = store.add_webhook(&webhook(Some(&vault))).await.unwrap().id;
    assert!(more > *ids.last().unwrap());
}

#[tokio::test]
async fn a_log_that_was_not_cut_is_cut_by_the_next_start() {
    let (store, dir) = open().await;
    store.add_webhook(&webhook(None)).await.unwrap();
    let vault = Vault::new([7; 32]);
    // the server ends before it is cut
    assert_eq!(store.seal_and_overwrite(&vault).await.unwrap(), 1);
    assert!(is_on_disk(dir.path()));
    assert_eq!(store.seal_webhook_secrets(&vault).await.unwrap(), 0);
    assert!(!is_on_disk(dir.path()));
    let noted: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM meta WHERE key LIKE '%log_to_be_cut'")
            .fetch_one(&store.readers)
            .await
            .unwrap();
    assert_eq!(noted, 0);
}
