//! The store as a whole: moved to another place, and to PostgreSQL and back.

use std::fs;

use crate::{dev::text, postgres, production::Site};

/// The site's configuration with another store.
fn with_store(site: &Site, name: &str, store: &str) -> std::path::PathBuf {
    let config = fs::read_to_string(site.path("first.toml")).expect("reads");
    let path = site.path(name);
    let other = config.replace("sqlite = \"strongroom.db\"", store);
    assert_ne!(other, config);
    fs::write(&path, other).expect("writes");
    path
}

/// Moves the site onto that configuration.
fn migrate(site: &Site, to: &std::path::Path) -> String {
    let said = site.operator_ok(&["store", "migrate", "-o", "json", "--to-config", text(to)]);
    fs::copy(to, site.path("strongroom.toml")).expect("copies");
    said
}

fn refused(site: &Site, to: &std::path::Path, word: &str) {
    let output = site.operator(&["store", "migrate", "--to-config", text(to)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains(word), "{said}");
}

#[test]
fn a_store_in_a_file_has_one_replica() {
    let site = Site::new();
    fs::copy(site.path("strongroom.toml"), site.path("first.toml")).expect("copies");
    site.init();
    // Another name and an empty log would be a way around what the log knows.
    let other = "sqlite = \"strongroom.db\"\n\n[replica]\nname = \"other\"";
    let config = fs::read_to_string(with_store(&site, "other.toml", other)).expect("reads");
    fs::write(site.path("strongroom.toml"), config.replace("dir = \"audit\"", "dir = \"audit-2\"")).expect("writes");
    let output = site.operator(&["serve"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("is that of replica main"), "{said}");
}

#[test]
fn a_store_moves_and_the_service_goes_on() {
    let site = Site::new();
    fs::copy(site.path("strongroom.toml"), site.path("first.toml")).expect("copies");
    site.init();
    let other = with_store(&site, "other.toml", "sqlite = \"other.db\"");
    let serving = site.serve();
    site.client_ok(&["vault", "create", "main"]);
    site.client_ok(&["key", "create", "release", "--type", "EC"]);
    let (file, sig) = (site.path("pin"), site.path("sig"));
    let paths = ["--in", text(&file)];
    let sign = ["key", "sign", "release", "--algorithm", "ES256", "--out", text(&sig)];
    let verify = ["key", "verify", "release", "--algorithm", "ES256", "--signature", text(&sig)];
    site.client_ok(&[&sign[..], &paths].concat());
    refused(&site, &other, "in use by another process");
    serving.stop();

    refused(&site, &site.path("strongroom.toml"), "both configurations name the store");
    let said: serde_json::Value = serde_json::from_str(&migrate(&site, &other)).expect("JSON");
    let rows = said["rows"].as_array().expect("an array");
    assert!(rows.iter().any(|row| row["table"] == "versions" && row["rows"] == 1), "{said}");
    refused(&site, &site.path("first.toml"), "is in use");
    let mut server = postgres::Server::new();
    if let Some(server) = &server {
        let hosts = format!("[\"{}:{}\"]", server.folder().display(), server.port());
        let store = format!(
            "[store.postgres]\nhosts = {hosts}\ndatabase = \"postgres\"\nuser = \"postgres\"\n\n[replica]\nname = \"main\""
        );
        let to = with_store(&site, "postgres.toml", &store);
        migrate(&site, &to);
    }
    let serving = site.serve();
    site.client_ok(&[&verify[..], &paths].concat());
    site.client_ok(&["key", "create", "second", "--type", "EC"]);
    site.client_ok(&[&sign[..], &paths].concat());
    serving.stop();
    if let Some(server) = &mut server {
        // The database goes away and comes again while it serves.
        let serving = site.serve();
        server.crash();
        server.start();
        site.client_ok(&["key", "create", "third", "--type", "EC"]);
        serving.stop();
        migrate(&site, &with_store(&site, "back.toml", "sqlite = \"back.db\""));
        let serving = site.serve();
        site.client_ok(&["key", "show", "third"]);
        site.client_ok(&[&verify[..], &paths].concat());
        serving.stop();
    }
}
