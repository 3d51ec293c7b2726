//! Messages of `ThingsPanel`, in both of its releases: topics, the push of a version, progress, the report of a version.
//!
//! Source: the configuration and the documentation of the community edition
//! (<https://github.com/ThingsPanel/thingspanel-backend-community>, <https://docs.thingspanel.cn>).

use serde_json::{Value, json};

use super::{spec::Spec, style::Style};

/// Where the device hears of new versions.
pub(super) fn topic_inform(spec: &Spec) -> String {
    let topic = match spec.style {
        Style::ThingsPanel05 => format!("ota/device/inform/{}", spec.secret.0),
        _ if spec.spells_inform => format!("ota/devices/inform/{}", spec.device),
        _ => format!("ota/devices/infrom/{}", spec.device),
    };
    mounted(spec, &topic)
}

/// Below the device's name, where a broker is to tell by that whose it is.
fn mounted(spec: &Spec, topic: &str) -> String {
    if spec.on_broker {
        format!("{}/{topic}", spec.device)
    } else {
        topic.to_owned()
    }
}

/// Where it reports its progress.
pub(super) fn topic_progress(spec: &Spec) -> String {
    let topic = match spec.style {
        Style::ThingsPanel05 => "ota/device/progress",
        _ => "ota/devices/progress",
    };
    mounted(spec, topic)
}

/// Where release 0.5 reports versions.
pub(super) fn topic_version(spec: &Spec) -> String {
    mounted(spec, "ota/device/inform")
}

/// The package that is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) url: String,
    pub(super) version: String,
    /// Bytes, 0 if it was not told.
    pub(super) size: u64,
    /// `Md5` or `SHA256`.
    pub(super) method: String,
    /// In hexadecimal digits; empty if it was not told.
    pub(super) sign: String,
    /// Absent if it was not told.
    pub(super) module: Option<String>,
}

/// Reads a push; `None` if it is none.
pub(super) fn push(payload: &[u8]) -> Option<Push> {
    let message: Value = serde_json::from_slice(payload).ok()?;
    let params = &message["params"];
    let text = |name: &str| params[name].as_str().map(str::to_owned);
    Some(Push {
        url: text("url")?,
        version: text("version")?,
        size: super::number(&params["size"]).unwrap_or(0),
        method: text("signMethod").unwrap_or_default(),
        sign: text("sign").unwrap_or_default(),
        module: text("module"),
    })
}

/// A report of progress: 1 to 100, or -1 to -4. Some devices write it as a number, some as text.
pub(super) fn progress(step: i8, as_number: bool, description: &str, module: &str) -> Vec<u8> {
    let step = if as_number {
        Value::from(step)
    } else {
        Value::from(step.to_string())
    };
    json!({ "step": step, "desc": description, "module": module })
        .to_string()
        .into_bytes()
}

/// A report of the version, with a message ID of at most ten characters.
pub(super) fn version(id: u32, version: &str, module: &str) -> Vec<u8> {
    json!({ "id": id.to_string(), "params": { "version": version, "module": module } })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_spelt_as_each_release_does() {
        let mut spec = Spec::new("n1", Style::ThingsPanel05, "V1");
        spec.secret.0 = "token".to_owned();
        assert_eq!(topic_inform(&spec), "ota/device/inform/token");
        assert_eq!(topic_progress(&spec), "ota/device/progress");
        spec.style = Style::ThingsPanel1;
        assert_eq!(topic_inform(&spec), "ota/devices/infrom/n1");
        spec.spells_inform = true;
        assert_eq!(topic_inform(&spec), "ota/devices/inform/n1");
        assert_eq!(topic_progress(&spec), "ota/devices/progress");
        spec.on_broker = true;
        assert_eq!(topic_progress(&spec), "n1/ota/devices/progress");
        assert_eq!(topic_inform(&spec), "n1/ota/devices/inform/n1");
    }

    #[test]
    fn sizes_and_codes_are_numbers_or_texts() {
        let text = br#"{"id":"123456789","code":"200","params":{"version":"V2","size":"17","url":"http://h:1/f",
            "signMethod":"Md5","sign":"ab","module":"mcu","extData":{"k":"v"}}}"#;
        let number =
            br#"{"id":"1","code":200,"params":{"version":"V2","size":17,"url":"http://h:1/f"}}"#;
        let (text, number) = (push(text).unwrap(), push(number).unwrap());
        assert_eq!((text.size, number.size), (17, 17));
        assert_eq!(
            (text.method.as_str(), text.module.as_deref()),
            ("Md5", Some("mcu"))
        );
        assert_eq!((number.sign.as_str(), number.module), ("", None));
        assert_eq!(push(b"{}"), None);
        assert_eq!(push(b"no"), None);
    }

    #[test]
    fn steps_are_texts_or_numbers() {
        let written = |as_number| String::from_utf8(progress(-2, as_number, "d", "m")).unwrap();
        assert_eq!(written(false), r#"{"desc":"d","module":"m","step":"-2"}"#);
        assert_eq!(written(true), r#"{"desc":"d","module":"m","step":-2}"#);
    }
}
