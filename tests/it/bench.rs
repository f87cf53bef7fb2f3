//! `strongroom bench`, briefly: what it shows has its shape and passes its own checks. How fast anything is, is
//! no test's to say.

use std::{fs, process::Command};

use serde_json::Value;

use crate::dev::{PROGRAM, text};

fn bench(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(PROGRAM).arg("bench").args(arguments).args(["-o", "json"]).output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code(), report)
}

fn rows<'a>(report: &'a Value, form: &str) -> Vec<&'a Value> {
    let cases = report["cases"].as_array().expect("cases");
    let rows = cases.iter().flat_map(|case| case["rows"].as_array().expect("rows"));
    rows.filter(|row| row["form"] == form).collect()
}

#[test]
fn a_quick_bench_measures_every_form_and_looks_at_the_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let svg = folder.path().join("bench.svg");
    let arguments = ["--quick", "--clients", "1,4", "--svg", text(&svg)];
    let (code, report) = bench(&[&arguments[..], &["--operations", "A256GCM,verify:ES256,HS256,EdDSA"]].concat());
    assert_eq!(code, Some(0), "{:?}", report["checks"]);
    assert_eq!(report["cases"].as_array().map(Vec::len), Some(4));
    for form in ["raw", "echo", "unary", "echoBatch", "batch", "echoStream", "stream"] {
        let rows = rows(&report, form);
        // Raw: one process, two, and as many as the lane has workers.
        assert!(if form == "raw" { rows.len() >= 8 } else { rows.len() == 8 }, "{form}: {}", rows.len());
        for row in rows {
            assert!(row["opsPerSecond"].as_f64() > Some(0.0) && row["right"].as_u64() > Some(0), "{row}");
            assert_eq!((&row["wrong"], &row["failed"]), (&0.into(), &0.into()), "{row}");
            assert!(row["p50Us"].as_f64() <= row["p99Us"].as_f64(), "{row}");
        }
    }
    for row in ["unary", "batch", "stream"].into_iter().flat_map(|form| rows(&report, form)) {
        for cpu in ["serverCpuUs", "workersCpuUs", "clientCpuUs", "ceiling", "ofCeiling", "ofRaw"] {
            assert!(row[cpu].as_f64() > Some(0.0), "{cpu}: {row}");
        }
    }
    assert!(report["lanesToml"].as_str().is_some_and(|toml| toml.contains("[hsm.lanes.short]\nworkers = ")));
    assert!(fs::read_to_string(&svg).expect("is drawn").starts_with("<svg "));
}

/// How fast one face is beside the other is no test's to say, and so neither is the exit code.
#[test]
fn both_faces_do_the_same_work_and_the_answers_are_looked_at() {
    let (_, report) = bench(&["--azure", "--quick"]);
    let work = report["work"].as_array().expect("work");
    assert_eq!(work.iter().map(|work| &work["operation"]).collect::<Vec<_>>(), ["ES256 sign P-256", "secret get"]);
    for face in work.iter().flat_map(|work| [&work["grpc"], &work["azure"]]) {
        assert!(face["opsPerSecond"].as_f64() > Some(0.0) && face["right"].as_u64() > Some(0), "{face}");
        assert!(face["wrong"] == 0 && face["error"].is_null(), "{face}");
    }
    let checks = report["checks"].as_array().expect("checks").iter();
    let checks: Vec<_> = checks.map(|check| check["what"].as_str().expect("a name")).collect();
    assert_eq!(checks, ["answers", "failures", "ES256 sign P-256", "secret get"]);
}

#[test]
fn what_cannot_be_measured_is_said_before_anything_is_started() {
    let output = Command::new(PROGRAM).args(["bench", "--operations", "ES255"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not an algorithm"));
    let output = Command::new(PROGRAM).args(["bench", "--config", "/no/such/file"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}
