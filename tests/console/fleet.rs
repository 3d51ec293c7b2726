//! Simulated devices for the pages to tell of.

use serde_json::json;
use sim::fleet::{Fleet, FleetConfig, Timing};

use crate::{
    browser::PASSWORD,
    support::{Server, noise},
};

/// Pauses are seconds instead of minutes, because the devices are a hundred times as fast as in the field.
pub(crate) const QUICK: [(&str, &str); 8] = [
    ("CELLWISE_COAP__ACK_TIMEOUT_MS", "500"),
    ("CELLWISE_UPGRADE__REPEAT_QUESTION_S", "2"),
    ("CELLWISE_UPGRADE__NUDGE_AFTER_S", "1"),
    ("CELLWISE_UPGRADE__RESULT_GRACE_S", "2"),
    ("CELLWISE_ADMISSION__OVERTAKE_S", "3"),
    ("CELLWISE_ADMISSION__PER_CELL_PER_SECOND", "2"),
    ("CELLWISE_ADMIN__REQUESTS_PER_SECOND", "100000"),
    ("CELLWISE_LOG__FILTER", "warn"),
];

/// A server with devices that are switched on, a package for them, and users.
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) package: i64,
    /// They live until they are dropped.
    _fleet: Option<Fleet>,
}

/// A user, and the roles that it is granted.
pub(crate) fn add_user(server: &Server, name: &str, roles: &[&str]) {
    let grants: Vec<_> = roles.iter().map(|role| json!({"role": role})).collect();
    let user = json!({"name": name, "password": PASSWORD, "grants": grants});
    let (status, answer) = server.api.post("/v1/users", &user);
    assert_eq!(status, 201, "{answer}");
}

/// Everything.
pub(crate) const ALL: [&str; 5] = ["viewer", "operator", "approver", "administrator", "auditor"];

impl Site {
    /// So many devices, of which some do wrong what these words say (as `cellwise-sim --fault` has them), and the user `anna`, who may do
    /// everything.
    pub(crate) async fn new(devices: usize, faults: &[&str]) -> Self {
        let server = Server::with(&QUICK);
        let version = |text| pcp::Version::new(text).unwrap();
        let mut config = FleetConfig::new(devices.max(1), version("V1.0"));
        config.target = Some(version("V2.0"));
        config.endpoint_prefix = "meter-".into();
        config.timing = Timing::default().faster(100);
        config.faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let mut specs = Fleet::specs(&config).unwrap();
        specs.truncate(devices);
        for (spec, cell) in specs.iter_mut().zip((1001..=1004).cycle()) {
            spec.coverage.cell_id = Some(cell);
        }
        let entries: Vec<_> = specs
            .iter()
            .enumerate()
            .map(|(i, spec)| {
                let site = ["north", "south"][i % 2];
                json!({"endpoint": spec.endpoint, "product": "meter", "site": site, "tags": {"customer": "acme"}})
            })
            .collect();
        if !entries.is_empty() {
            let (status, answer) = (server.api).post("/v1/devices", &json!({"devices": entries}));
            assert!(status < 300, "{answer}");
        }
        let package = server.api.upload("meter", "V2.0", &noise(3, 8 * 1024));
        let package = package.as_i64().unwrap();
        add_user(&server, "anna", &ALL);
        let fleet = match specs.as_slice() {
            [] => None,
            _ => Some(Fleet::start(specs, server.coap).await.unwrap()),
        };
        Self {
            server,
            package,
            _fleet: fleet,
        }
    }
}
