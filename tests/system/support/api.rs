use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};

use super::wait_for;

/// The admin API, over HTTP.
#[derive(Debug)]
pub(crate) struct Api {
    agent: ureq::Agent,
    base: String,
    token: String,
}

impl Api {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Self {
            agent: config.into(),
            base: format!("http://{address}"),
            token: format!("Bearer {token}"),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        self.base.clone() + path
    }

    pub(crate) fn token(&self) -> &str {
        self.token.trim_start_matches("Bearer ")
    }

    /// Status and body of a GET.
    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        let request = self.agent.get(self.base.clone() + path);
        answer(path, request.header("authorization", &self.token).call())
    }

    /// The body of a GET of something that is no JSON.
    pub(crate) fn text(&self, path: &str) -> String {
        let request = self.agent.get(self.base.clone() + path);
        let response = request.header("authorization", &self.token).call();
        response.unwrap().body_mut().read_to_string().unwrap()
    }

    /// Status and body of a POST of JSON.
    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.post(self.base.clone() + path);
        let request = request.header("authorization", &self.token);
        answer(path, request.send_json(body))
    }

    pub(crate) fn upload(&self, product: &str, version: &str, content: &[u8]) -> Value {
        self.upload_to(
            &format!("/v1/packages?product={product}&version={version}"),
            content,
        )
    }

    /// For a component, or a software, of its devices.
    pub(crate) fn upload_component(
        &self,
        product: &str,
        version: &str,
        component: &str,
        content: &[u8],
    ) -> Value {
        let path = format!("/v1/packages?product={product}&version={version}");
        self.upload_to(&format!("{path}&component={component}"), content)
    }

    fn upload_to(&self, path: &str, content: &[u8]) -> Value {
        let request = self.agent.post(self.base.clone() + path);
        let request = request
            .header("authorization", &self.token)
            .header("content-type", "application/octet-stream");
        created(path, answer(path, request.send(content)))["id"].clone()
    }

    pub(crate) fn add_device(&self, endpoint: &str, product: &str) {
        let body = json!({"endpoint": endpoint, "product": product});
        created("/v1/devices", self.post("/v1/devices", &body));
    }

    /// With a pre-shared key.
    pub(crate) fn add_secured(&self, endpoint: &str, product: &str, key: &[u8]) {
        let psk = json!({"identity": identity(endpoint), "key": hex::encode(key)});
        let body = json!({"endpoint": endpoint, "product": product, "psk": psk});
        created("/v1/devices", self.post("/v1/devices", &body));
    }

    /// Status and body of a PATCH of JSON.
    pub(crate) fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.patch(self.base.clone() + path);
        let request = request.header("authorization", &self.token);
        answer(path, request.send_json(body))
    }

    /// Status and body of a PUT of JSON.
    pub(crate) fn put(&self, path: &str, body: &Value) -> (u16, Value) {
        let request = self.agent.put(self.base.clone() + path);
        let request = request.header("authorization", &self.token);
        answer(path, request.send_json(body))
    }

    pub(crate) fn create_task(&self, name: &str, package: &Value, devices: &[&str]) -> Value {
        let body = json!({"name": name, "package_id": package, "devices": devices});
        created("/v1/tasks", self.post("/v1/tasks", &body))["id"].clone()
    }

    /// The task's upgrades, once it has finished.
    pub(crate) fn finished(&self, task: &Value, limit: Duration) -> Vec<Value> {
        let path = format!("/v1/tasks/{task}");
        wait_for(limit, &format!("the end of task {task}"), || {
            let (status, body) = self.get(&path);
            assert_eq!(status, 200, "{path}: {body}");
            (body["state"] == "finished").then_some(())
        });
        let path = format!("{path}/upgrades");
        let (status, body) = self.get(&path);
        assert_eq!(status, 200, "{path}: {body}");
        body["items"]
            .as_array()
            .expect("a list of upgrades")
            .clone()
    }
}

/// Who a device of [`Api::add_secured`] is for DTLS.
pub(crate) fn identity(endpoint: &str) -> String {
    format!("id-{endpoint}")
}

fn created(path: &str, (status, body): (u16, Value)) -> Value {
    assert!((200..300).contains(&status), "{path}: {status} {body}");
    body
}

fn answer(
    path: &str,
    response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> (u16, Value) {
    let mut response = response.unwrap_or_else(|e| panic!("{path}: {e}"));
    let body = response.body_mut().read_to_string().unwrap();
    let json = serde_json::from_str(&body).unwrap_or(Value::String(body));
    (response.status().as_u16(), json)
}
