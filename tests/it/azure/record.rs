//! What is done over the Azure face is in the audit log, under the caller's name, before the answer is.

use serde_json::Value;

use super::face::{Face, VERSION};

#[test]
fn operations_are_recorded_as_those_of_grpc_are() {
    let face = Face::new();
    face.key("k");
    let sign = format!(r#"{{"alg":"ES256","value":"{}"}}"#, "A".repeat(43));
    face.ask("POST", &format!("/keys/k/sign?{VERSION}"), &sign).ok();
    face.ask("PUT", &format!("/secrets/s?{VERSION}"), r#"{"value":"tell nobody"}"#).ok();
    let read = face.ask("GET", &format!("/secrets/s?{VERSION}"), "");
    read.ok();
    let id = read.header("x-ms-request-id").to_owned();
    face.ask("GET", &format!("/keys/none?{VERSION}"), "").refused(404, "KeyNotFound");
    // Whatever becomes of the process now: each record was there before its answer.
    let mut face = face;
    face.dev.kill();
    let log = face.dev.data().join("audit");
    let mut text = Vec::new();
    collect(&log, &mut text);
    let text = String::from_utf8_lossy(&text);
    for what in ["keys.create", "keys.sign", "secrets.set", "secrets.get", "keys.read", "token:azure", &id] {
        assert!(text.contains(what), "{what}");
    }
    assert!(!text.contains("tell nobody"));
    let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let missed = records.filter(|record| record.to_string().contains("vaults/dev/keys/none")).count();
    assert!(missed > 0 || text.contains("vaults/dev/keys/none"), "a refusal, too");
}

fn collect(folder: &std::path::Path, text: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, text);
        } else if let Ok(bytes) = std::fs::read(&path) {
            text.extend(bytes);
        }
    }
}
