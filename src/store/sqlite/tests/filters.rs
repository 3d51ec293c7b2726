//! The database gives the answers of [`Filter::matches`], step by step, and looks at so many rows at most.

use proptest::{
    collection::vec,
    strategy::{Strategy, ValueTree as _},
    test_runner::TestRunner,
};

use super::{plans::offences, *};
use crate::{
    filter::{
        Filter,
        tests::random::{self, Device, T0},
    },
    ledger::WakeUps,
    store::{
        DeviceDetail, DeviceFilter, GroupId, Groups as _, NewGroup, NewMembers, NewTenant,
        Tenancy as _,
        sqlite::{rhythm, walk::Walk},
    },
    tenant::{self, TenantId},
};

async fn insert(store: &SqliteStore, device: &Device) {
    let registration = device.registration.as_ref();
    let registered = registration.map(|_| 1);
    let wake_ups = device.wake_every.map(|period_s| WakeUps {
        period_s,
        ..WakeUps::first(T0)
    });
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO devices (endpoint, product, model, hardware, site, time_zone, version, coverage_cell, coverage_rsrp_dbm, \
             coverage_sinr_db, coverage_at, secure, last_heard_at, created_at, wake_ups, reg_lwm2m_version, reg_binding, \
             reg_queue_mode, reg_location, reg_peer, reg_lifetime_s, reg_expires_at, reg_registered_at, via, protocol) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'iotda') RETURNING id",
    )
    .bind(&device.endpoint)
    .bind(&device.product)
    .bind(&device.model)
    .bind(&device.hardware)
    .bind(&device.site)
    .bind(&device.time_zone)
    .bind(&device.version)
    .bind(device.cell)
    .bind(device.rsrp)
    .bind(device.sinr)
    .bind(device.secure)
    .bind(device.last_heard.map(|at| at.0))
    .bind(device.created.0)
    .bind(rhythm::write(wake_ups.or_else(|| device.secure.then(|| WakeUps::first(T0)))))
    .bind(registration.and_then(|it| it.lwm2m_version))
    .bind(registration.map(|it| it.binding))
    .bind(registration.map(|it| it.queue_mode))
    .bind(registration.map(|_| "5a3f"))
    .bind(registration.map(|_| "192.0.2.7:5683"))
    .bind(registered)
    .bind(registered)
    .bind(registered)
    .bind(&device.via)
    .fetch_one(&store.writer)
    .await
    .unwrap();
    for (key, value) in &device.tags {
        sqlx::query("INSERT INTO device_tags (device_id, key, value) VALUES (?, ?, ?)")
            .bind(id)
            .bind(key)
            .bind(value)
            .execute(&store.writer)
            .await
            .unwrap();
    }
}

fn of(filter: Filter) -> DeviceFilter {
    DeviceFilter {
        filter: Some(filter),
        now: T0,
        ..DeviceFilter::default()
    }
}

/// What a search finds and counts that looks at so many rows a step.
async fn step_by_step(store: &SqliteStore, filter: DeviceFilter, rows: u32) -> (Vec<String>, u64) {
    let mut reader = store.readers.acquire().await.unwrap();
    let walk = Walk::of(&mut reader, filter).await.unwrap().stepping(rows);
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let part = walk.find(&mut reader, after.as_deref(), 2).await.unwrap();
        assert!(part.endpoints.len() <= 2);
        found.extend(part.endpoints);
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    let mut counted = 0;
    loop {
        let (count, next) = walk.count(&mut reader, after.as_deref()).await.unwrap();
        counted += count;
        after = next;
        if after.is_none() {
            return (found, counted);
        }
    }
}

#[tokio::test]
async fn the_database_lets_through_whom_the_filter_does() {
    let (store, _dir) = open().await;
    for tenant in ["a", "ab"] {
        let new = NewTenant {
            id: tenant.parse().unwrap(),
            name: tenant.to_owned(),
            created_at: T0,
        };
        store.add_tenant(&new).await.unwrap();
    }
    let mut runner = TestRunner::deterministic();
    let mut devices = vec(random::device(), 60)
        .new_tree(&mut runner)
        .unwrap()
        .current();
    for (number, device) in devices.iter_mut().enumerate() {
        device.endpoint.push_str(&number.to_string());
        insert(&store, device).await;
    }
    devices.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
    // a tenant's group has devices of this tenant alone
    let in_half: Vec<&Device> = (devices.iter())
        .filter(|it| tenant::owner(&it.product) == tenant::DEFAULT)
        .step_by(2)
        .collect();
    let members = in_half.iter().map(|it| it.endpoint.clone());
    let group = NewGroup {
        tenant: TenantId::default(),
        name: "half".to_owned(),
        members: NewMembers::Listed(members.collect()),
        created_at: T0,
    };
    let group = store.add_group(&group).await.unwrap().id;
    let all = store
        .devices(&DeviceFilter::default(), None, 100)
        .await
        .unwrap()
        .items;
    let mut some = 0;
    for _ in 0..500 {
        let filter = random::filter().new_tree(&mut runner).unwrap().current();
        let expected: Vec<String> = (devices.iter())
            .filter(|device| filter.matches(*device, T0))
            .map(|device| device.endpoint.clone())
            .collect();
        some += usize::from((1..devices.len()).contains(&expected.len()));
        let text = filter.to_string();
        let page = store.devices(&of(filter.clone()), None, 100).await.unwrap();
        let lets_through = |detail: &DeviceDetail| filter.matches(detail, T0);
        assert!(page.items.iter().all(lets_through), "{text}");
        let read = all.iter().filter(|detail| lets_through(detail)).count();
        assert_eq!(read, expected.len(), "{text}");
        let found: Vec<String> = (page.items.into_iter())
            .map(|detail| detail.device.endpoint)
            .collect();
        assert_eq!((&found, page.next), (&expected, None), "{text}");
        // of 30 rows, two devices are looked for in 20 first
        for rows in [3, 30] {
            let stepped = step_by_step(&store, of(filter.clone()), rows).await;
            assert_eq!(stepped, (expected.clone(), expected.len() as u64), "{text}");
        }
        let count = store.count_devices(&of(filter.clone())).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{text}");
        let half: Vec<String> = (in_half.iter())
            .filter(|device| filter.matches(**device, T0))
            .map(|device| device.endpoint.clone())
            .collect();
        let mut in_group = of(filter);
        in_group.group = Some(group);
        let stepped = step_by_step(&store, in_group, 3).await;
        assert_eq!(stepped, (half.clone(), half.len() as u64), "{text}");
    }
    assert!(some > 200, "{some} filters let some through and others not");
}

#[tokio::test]
async fn a_search_goes_along_an_index_and_sorts_few() {
    let (store, _dir) = open().await;
    let mut conn = store.writer.acquire().await.unwrap();
    for (text, index) in [
        (
            "version!=a",
            "sqlite_autoindex_devices_1 (endpoint>? AND endpoint<?)",
        ),
        (
            "endpoint==urn:*,site==a",
            "sqlite_autoindex_devices_1 (endpoint>? AND endpoint<?)",
        ),
        (
            "endpoint==urn:*;cell==1",
            "sqlite_autoindex_devices_1 (endpoint>? AND endpoint<?)",
        ),
        (
            "product==a;(model==b,site==c)",
            "devices_by_product (product=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "product==a;registered==true",
            "devices_by_product_registered (product=? AND registered=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "tenant==a;version!=b",
            "devices_by_tenant (tenant=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "tenant==a;registered==true",
            "devices_by_tenant (tenant=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "tenant==a;product==b",
            "devices_by_product (product=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "registered==false;cell==1",
            "devices_by_registered (registered=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "product==a;model==b",
            "devices_by_model (model=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "model==b;site==c",
            "devices_by_site (site=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "tenant==a;model==b;site==c",
            "devices_of_tenant_by_site (tenant=? AND site=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "tenant==a;model==b",
            "devices_of_tenant_by_model (tenant=? AND model=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "tenant==default;model==b",
            "devices_by_model (model=? AND endpoint>? AND endpoint<?)",
        ),
        (
            "site==c;tag.k==v",
            "device_tags_by_value (key=? AND value=?)",
        ),
    ] {
        let filter = of(Filter::parse(text).unwrap());
        let walk = Walk::of(&mut conn, filter).await.unwrap();
        for query in [
            walk.end_statement(Some("a"), 3),
            walk.find_statement(Some("a"), Some("z"), 9),
        ] {
            let sql = query.sql().as_str().to_owned();
            let plan = plans::plan(&mut conn, &sql).await.unwrap();
            assert!(
                plan.iter().any(|line| line.contains(index)) || sql.contains("OFFSET"),
                "{text}: {plan:?}"
            );
            let offences = offences(&mut conn, &sql).await.unwrap();
            let sorts_tags = text.contains("tag.") && offences == ["USE TEMP B-TREE FOR ORDER BY"];
            assert!(offences.is_empty() || sorts_tags, "{text}: {offences:?}");
        }
    }
}

#[tokio::test]
async fn the_members_of_a_list_are_found_in_order() {
    let (store, _dir) = open().await;
    let mut conn = store.writer.acquire().await.unwrap();
    let filter = DeviceFilter {
        group: Some(GroupId(1)),
        ..of(Filter::parse("product==p;site==s;tag.k==v").unwrap())
    };
    let walk = Walk::of(&mut conn, filter).await.unwrap();
    for query in [
        walk.end_statement(Some("a"), 3),
        walk.find_statement(None, Some("z"), 9),
    ] {
        let sql = query.sql().as_str().to_owned();
        let plan = plans::plan(&mut conn, &sql).await.unwrap();
        let along = "PRIMARY KEY (group_id=? AND endpoint>?";
        assert!(plan.iter().any(|line| line.contains(along)), "{plan:?}");
        assert_eq!(
            offences(&mut conn, &sql).await.unwrap(),
            Vec::<String>::new()
        );
    }
}

#[tokio::test]
async fn numbers_within_a_text_have_their_order_on_every_connection() {
    let (store, _dir) = open().await;
    for pool in [&store.writer, &store.readers] {
        let ordered: bool = sqlx::query_scalar("SELECT 'V1.9' < 'V1.10' COLLATE by_numbers")
            .fetch_one(pool)
            .await
            .unwrap();
        assert!(ordered);
    }
}

/// A tag that many devices have is no path: they would all be sorted for a page.
#[tokio::test]
async fn a_frequent_tag_is_looked_for_along_the_names() {
    let (store, _dir) = open().await;
    for statement in [
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20002) \
             INSERT INTO devices (id, endpoint, product, created_at) SELECT n, printf('d%05d', n), 'p', 0 FROM n",
        "INSERT INTO device_tags (device_id, key, value) SELECT id, 'k', IIF(id = 9000, 'rare', 'frequent') FROM devices",
    ] {
        sqlx::query(statement).execute(&store.writer).await.unwrap();
    }
    let mut reader = store.readers.acquire().await.unwrap();
    for (text, table) in [
        ("tag.k==rare", "FROM device_tags"),
        ("tag.k==frequent", "FROM devices"),
    ] {
        let filter = of(Filter::parse(text).unwrap());
        let walk = Walk::of(&mut reader, filter).await.unwrap();
        let sql = walk.find_statement(None, None, 9).sql().as_str().to_owned();
        assert!(
            sql.contains(&format!("SELECT d.endpoint AS line {table}")),
            "{sql}"
        );
        let found = walk.find(&mut reader, None, 2).await.unwrap();
        let expected: &[&str] = if text.ends_with("rare") {
            &["d09000"]
        } else {
            &["d00001", "d00002"]
        };
        assert_eq!(found.endpoints, expected);
    }
}
