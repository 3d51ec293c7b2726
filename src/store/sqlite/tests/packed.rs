//! What becomes of values on their way through the text in which rows are packed.

use super::*;
use crate::{
    ledger::AttributesChange,
    store::{AddedDevice, DeviceFilter, NewDevice},
};

const NAMES: [&str; 6] = [
    " \"quoted\", [1] and \\n",
    "back\\slash/",
    "line\nbreak\r\n\u{85}\u{2028}",
    "nothing\0inside\u{1}\u{7f}",
    "Zähler 水 \u{10FFFF}",
    "{\"a\":1}",
];

/// A product whose name is like that of a device: `/` is in no name of a product.
fn product(name: &str) -> String {
    name.replace('/', "")
}

async fn with_names() -> (SqliteStore, TempDir) {
    let (store, dir) = open().await;
    let devices = NAMES.map(|name| NewDevice {
        attributes: AttributesChange::default(),
        endpoint: name.to_owned(),
        product: product(name),
        psk: None,
        mqtt: None,
        via: None,
    });
    let added = store.add_devices(&devices, UtcMillis(0)).await.unwrap();
    assert_eq!(added, [const { AddedDevice::Added }; 6]);
    (store, dir)
}

#[tokio::test]
async fn names_stay_as_they_are() {
    let (store, _dir) = with_names().await;
    let mut sorted = NAMES;
    sorted.sort_unstable();
    let filter = DeviceFilter::default();
    let page = store.devices(&filter, None, 9).await.unwrap();
    let names: Vec<_> = (page.items.iter())
        .map(|it| (it.device.endpoint.as_str(), it.device.product.clone()))
        .collect();
    assert_eq!(names, sorted.map(|name| (name, product(name))));
    for name in NAMES {
        let found = store.device(name).await.unwrap().unwrap();
        assert_eq!(found.device.endpoint, name);
    }
}

/// Also the last of a page: others follow it.
#[tokio::test]
async fn a_damaged_device_is_left_out_and_hides_no_other() {
    let (store, _dir) = with_names().await;
    for damage in [
        "UPDATE devices SET coverage_cell = -1 WHERE id = 2",
        "UPDATE devices SET version = printf('%070d', 1) WHERE id = 3",
        "UPDATE devices SET reg_location = 'a', reg_peer = 'nowhere' WHERE id = 4",
        "UPDATE devices SET reg_location = 'a' WHERE id = 5",
    ] {
        sqlx::query(damage).execute(&store.writer).await.unwrap();
    }
    let (mut found, mut after) = (Vec::new(), Some(0));
    while let Some(number) = after {
        let page = store.restore_devices(number, 2).await.unwrap();
        found.extend(page.devices.into_iter().map(|device| device.endpoint));
        after = page.next;
    }
    assert_eq!(found, [NAMES[0], NAMES[5]]);
    let filter = DeviceFilter::default();
    let refused = store.devices(&filter, None, 9).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Unreadable { .. }),
        "{refused}"
    );
}
