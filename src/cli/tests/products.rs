//! Products and their settings.

use super::*;

#[tokio::test]
async fn a_product_is_added_set_shown_listed_and_removed() {
    let shell = Shell::new().await;
    let added = shell
        .text("product add meter --awake-window-s 10 --pmin-zero on --rsrp-unit tenths")
        .await;
    let expected = "product meter: signatures optional, 0 keys\nawake_window_s = 10\npmin_zero = true\nrsrp_unit = tenths\n";
    assert_eq!(added, expected);
    let again = shell.error("product add meter").await;
    assert!(again.contains("was created before"), "{again}");
    let set = shell
        .text("product set meter --awake-window-s default --pmin-zero off --adaptive off --max-retransmit 4")
        .await;
    let expected = "product meter: signatures optional, 0 keys\nadaptive = false\nmax_retransmit = 4\nrsrp_unit = tenths\n";
    assert_eq!(set, expected);
    let wrong = shell.error("product set meter --max-retransmit 11").await;
    assert!(wrong.contains("settings.max_retransmit"), "{wrong}");
    let set = shell
        .text("product set pump --update-by firmware --delivery push --push-max-bytes 9000 --uri-scheme coaps --version-resource /3/0/3")
        .await;
    let expected = "delivery = push\npush_max_bytes = 9000\nupdate_by = firmware\nuri_scheme = coaps\nversion_resource = /3/0/3\n";
    assert!(set.ends_with(expected), "{set}");
    let set = shell
        .text("product set pump --push-max-bytes default --uri-scheme default --version-resource default")
        .await;
    assert!(
        set.ends_with("delivery = push\nupdate_by = firmware\n"),
        "{set}"
    );
    shell.text("product remove pump").await;
    let nothing = shell.error("product set meter").await;
    assert!(nothing.contains("nothing is to be changed"), "{nothing}");
    let late = shell
        .error("product set meter --appointments lifetime --if-revision 1")
        .await;
    assert!(late.contains("changed meanwhile"), "{late}");
    shell
        .text("product set valve --check-code zero --signatures required")
        .await;
    let listed = shell.text("product list").await;
    let lines: Vec<Vec<&str>> = (listed.lines().skip(1))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec![
                "meter",
                "optional",
                "0",
                "adaptive=false",
                "max_retransmit=4",
                "rsrp_unit=tenths"
            ],
            vec!["valve", "required", "0", "check_code=zero"],
        ]
    );
    let device = shell.text("device add d0 --product meter").await;
    assert!(device.starts_with("1 added"), "{device}");
    let shown = shell.text("product show meter").await;
    assert!(shown.ends_with("1 device, 0 packages\n"), "{shown}");
    let refused = shell.error("product remove meter").await;
    assert!(refused.contains("1 devices"), "{refused}");
    let removed = shell.text("product remove valve").await;
    assert_eq!(removed, "product valve removed\n");
    let shown = shell.text("product show valve").await;
    assert!(shown.contains("nobody has created it"), "{shown}");
    let json = shell.run("product show meter --format json").await.unwrap();
    assert_eq!(json.json()["settings"]["max_retransmit"], 4);
}
