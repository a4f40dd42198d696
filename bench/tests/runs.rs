//! The benchmark runs, and its report has every row: with few and short rounds, so that it stays true on a busy machine.

use std::process::Command;

use serde_json::Value;

#[test]
fn every_row_is_measured_or_says_what_it_lacks() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(["--quick", "--rounds", "1", "--window", "50", "--streams", "5,20", "--json", "--no-build"]);
    // It takes a minute to start, and needs an installation of its own.
    command.args(["--rows", "nginx,one,four,tls"]);
    let output = command.output().expect("started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names = |list: &str| -> Vec<String> {
        let rows = report[list].as_array().expect("a list");
        rows.iter().map(|row| row["row"].as_str().expect("a name").to_owned()).collect()
    };
    let mut all = [names("rows"), names("skipped")].concat();
    all.sort();
    assert_eq!(all, ["direct", "four", "nginx", "one", "tls"], "{report:#}");
    for row in report["rows"].as_array().expect("a list") {
        let round = &row["rounds"][0];
        assert!(round["firstEvent"]["p50Us"].as_f64().expect("a number") > 0.0, "{row:#}");
        assert!(round["eachEvent"]["p50Us"].as_f64().expect("a number") > 0.0, "{row:#}");
        assert_eq!(round["streams"].as_array().expect("a list").len(), 3, "{row:#}");
        assert!(row["row"] == "direct" || row["memory"]["open"][1]["streams"] == 20, "{row:#}");
    }
    assert_eq!(report["targets"].as_array().expect("a list").len(), 9, "{report:#}");
}
