use super::*;
use crate::store::{Products as _, SqliteStore};

fn config(products: &[(&str, u64)]) -> Config {
    let mut config = Config::default();
    for (name, seconds) in products {
        let product = ProductConfig {
            awake_window_s: Some(*seconds),
            ..ProductConfig::default()
        };
        config.products.insert((*name).to_owned(), product);
    }
    config
}

#[tokio::test]
async fn the_first_start_takes_the_products_in_and_later_ones_do_not() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(stored_products(dir.path()).await.unwrap(), None);
    let store = SqliteStore::open(dir.path()).await.unwrap();
    assert_eq!(stored_products(dir.path()).await.unwrap(), None);
    let first = config(&[("meter", 10), ("valve", 20)]);
    let started = with_stored(first.clone(), &store).await.unwrap();
    assert_eq!(started, first);
    let stored = stored_products(dir.path()).await.unwrap();
    assert_eq!(stored.as_ref(), Some(&first.products));
    // the settings say other things meanwhile
    let mut later = config(&[("meter", 11), ("lock", 5)]);
    later.admission.limit_good = 7;
    let started = with_stored(later.clone(), &store).await.unwrap();
    assert_eq!(started.products, first.products);
    assert_eq!(started.admission, later.admission);
    // so after a crash, and with settings that say nothing
    store.close().await;
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let started = with_stored(Config::default(), &store).await.unwrap();
    assert_eq!(started.products, first.products);
    store.remove_product("meter", None).await.unwrap();
    let started = with_stored(first, &store).await.unwrap();
    assert_eq!(started.products, config(&[("valve", 20)]).products);
    store.close().await;
    let stored = stored_products(dir.path()).await.unwrap();
    assert_eq!(stored, Some(config(&[("valve", 20)]).products));
}
