//! The broker whose client the server is: whether it can be reached.

use std::time::Duration;

use tokio::{net::TcpStream, time::timeout};

use super::Finding;
use crate::config::MqttConfig;

const CHECK: &str = "broker";
const WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn all(config: &MqttConfig) -> Vec<Finding> {
    if !config.is_by_broker() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for address in &config.broker.addresses {
        findings.push(one(address).await);
    }
    findings
}

/// Whether somebody listens there. Nothing is said: two clients of one name would end each other's connections.
async fn one(address: &str) -> Finding {
    let advice =
        "start the broker, or correct mqtt.broker.addresses, the name server or the firewall";
    match timeout(WITHIN, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Finding::ok(
            CHECK,
            format!(
                "{address} can be reached; the server's log and cellwise_mqtt_broker_connected tell whether it lets the server in"
            ),
        ),
        Ok(Err(error)) => Finding::error(
            CHECK,
            format!("{address} cannot be reached: {error}"),
            advice,
        ),
        Err(_) => Finding::error(
            CHECK,
            format!("{address} does not answer within {} s", WITHIN.as_secs()),
            advice,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::MqttMode, server::doctor::Level};

    #[tokio::test]
    async fn a_broker_is_there_or_it_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [&listener, &gone].map(|it| it.local_addr().unwrap().to_string());
        drop(gone);
        let mut config = MqttConfig::default();
        config.broker.addresses = addresses.to_vec();
        assert_eq!(all(&config).await, []);
        config.mode = MqttMode::Broker;
        let levels: Vec<Level> = all(&config).await.iter().map(|it| it.level).collect();
        assert_eq!(levels, [Level::Ok, Level::Error]);
    }
}
