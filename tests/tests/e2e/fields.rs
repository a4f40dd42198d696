//! The table of docs/clients.md that says what becomes of every field of a request, tried field by field.

use e2e::Switchboard;
use serde_json::{Value, json};

use crate::support::{MODEL, World};

const PAGE: &str = include_str!("../../../docs/clients.md");
/// The columns: the path asked, and what the table calls it.
const FACES: [(&str, &str); 3] = [
    ("/v1/responses", "Responses"),
    ("/v1/responses/compact", "compaction"),
    ("/v1/chat/completions", "Chat Completions"),
];
/// What the row of all other fields is tried with.
const OTHER: &str = "brand_new_field";

/// A row: the fields, and what becomes of them in each face.
struct Row {
    names: Vec<&'static str>,
    cells: Vec<&'static str>,
}

fn table() -> Vec<Row> {
    let head = "| field | Responses | compaction | Chat Completions | why |";
    let (_, table) = PAGE.split_once(head).expect("docs/clients.md has the table");
    let lines = table.trim_start().lines().skip(1).take_while(|line| line.starts_with('|'));
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        // What stands in backticks is every other piece.
        let names: Vec<&str> = cells[0].split('`').skip(1).step_by(2).collect();
        Row { names: if names.is_empty() { vec![OTHER] } else { names }, cells: cells[1..4].to_vec() }
    };
    lines.map(row).collect()
}

/// A request that holds `name` with a value that asks for something.
fn asking(name: &str, path: &str) -> Value {
    let chat = path.ends_with("completions");
    let said = json!([{ "role": "user", "content": "Reply exactly: OK" }]);
    let mut body = json!({ "model": MODEL });
    body[if chat { "messages" } else { "input" }] = said;
    let function = json!({ "name": "f", "parameters": { "type": "object", "properties": {} } });
    body[name] = match name {
        "model" => MODEL.into(),
        "stream" => false.into(),
        "store" | "background" | "logprobs" => true.into(),
        "include" => json!(["message.output_text.logprobs"]),
        "input" => "Reply exactly: OK".into(),
        "instructions" => {
            body["input"] = json!([{ "role": "system", "content": "Be brief." }, body["input"][0]]);
            Value::Null
        }
        "stream_options" => json!({ "include_usage": true }),
        "tool_choice" => {
            let nested = json!({ "type": "function", "function": function });
            let flat = json!({ "type": "function", "name": "f", "parameters": function["parameters"] });
            body["tools"] = if chat { json!([nested]) } else { json!([flat]) };
            if chat { json!({ "type": "function", "function": { "name": "f" } }) } else { "auto".into() }
        }
        "metadata"
        | "prompt_cache_options"
        | "audio"
        | "web_search_options"
        | "moderation"
        | "prediction"
        | "logit_bias" => json!({ "a": "b" }),
        "stop" | "modalities" | "functions" => json!(["audio"]),
        "function_call" => json!({ "name": "f" }),
        "max_output_tokens" | "max_completion_tokens" | "max_tokens" | "n" | "top_logprobs" | "seed" => 7.into(),
        "temperature" | "top_p" | "presence_penalty" | "frequency_penalty" => 0.5.into(),
        _ => "x".into(),
    };
    body
}

/// What became of a field, in the words of the table.
async fn fate(world: &World, switchboard: &Switchboard, name: &str, path: &str) -> &'static str {
    let sent = asking(name, path);
    world.sim.state().clear_requests();
    let answer = switchboard.http().post(path, &sent).await;
    let upstream = world.upstream().into_iter().filter_map(|request| request.body).next_back();
    let Some(upstream) = upstream else {
        let error = answer.json()["error"].clone();
        assert_eq!((answer.status, &error["reason"]), (400, &"UNSUPPORTED".into()), "{path} {name}: {error}");
        assert_eq!(error["param"], name, "{path}: {error}");
        return "refused";
    };
    // What the upstream refuses has no answer that could say what was dropped.
    let told = answer.header("x-switchboard-dropped").split(", ").any(|dropped| dropped == name);
    match (&sent[name], &upstream[name]) {
        (sent, got) if sent == got => "passes",
        (sent, Value::Null) if *sent == false || told => "dropped",
        _ => "rewritten",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_fares_as_documented() {
    let (world, _) = World::with_login().await;
    let switchboard = world.start(e2e::Topology::OneProcess).await;
    let rows = table();
    assert!(rows.len() > 15, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for Row { names, cells } in &rows {
        for name in names {
            for ((path, face), documented) in FACES.iter().zip(cells).filter(|(_, cell)| **cell != "-") {
                let found = fate(&world, &switchboard, name, path).await;
                if found != *documented {
                    wrong.push(format!("`{name}` in {face}: documented as {documented}, found {found}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
