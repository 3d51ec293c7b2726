use std::process::ExitCode;

use super::Shell;

#[tokio::test]
async fn a_list_with_a_header_brings_products_and_keys() {
    let shell = Shell::new().await;
    let list = shell.file(
        "keys.csv",
        "\u{feff}endpoint,product,identity,key\r\n\
         urn:imei:1,meter,\"one, first\",000102030405060708090a0b0c0d0e0f\r\n\
         urn:imei:2,,,\r\n"
            .as_bytes(),
    );
    let added = shell
        .text(&format!("device add --product valve --file {list}"))
        .await;
    assert_eq!(added, "2 added, 0 there already, 0 refused\n");
    let devices = shell.run("device list --format json").await.unwrap().json();
    let devices = devices["items"].as_array().unwrap();
    let told: Vec<_> = (devices.iter())
        .map(|it| (&it["endpoint"], &it["product"], &it["psk_identity"]))
        .map(|(endpoint, product, identity)| format!("{endpoint} {product} {identity}"))
        .collect();
    assert_eq!(
        told,
        [
            "\"urn:imei:1\" \"meter\" \"one, first\"",
            "\"urn:imei:2\" \"valve\" null",
        ]
    );
}

#[tokio::test]
async fn what_the_server_refuses_of_a_list_is_told_by_line() {
    let shell = Shell::new().await;
    let list = shell.file("keys.csv", b"endpoint,identity,key\n# spare\na,b,5e5e\n");
    let short = shell.error(&format!("device add x --file {list}")).await;
    assert!(short.contains("line 3 of the list.psk"), "{short}");
    assert!(!short.contains("5e5e"), "{short}");
    shell.text("device add a --product other").await;
    let list = shell.file("list.csv", b"\nendpoint\nb\na\n");
    let json = format!("device add x --file {list} --format json");
    let done = shell.run(&json).await.unwrap();
    assert_eq!(done.code, ExitCode::from(1));
    let refused = &done.json()["refused"];
    assert!(
        refused[0]
            .as_str()
            .unwrap()
            .starts_with("line 4 of the list: device a is there"),
        "{refused}"
    );
}
