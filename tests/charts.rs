//! The Helm chart, checked by helm itself, by the schemas of three versions of Kubernetes, and by the relay.
//!
//! Not part of `cargo test`, since it needs `helm` and `kubernetes-validate`: `.ci/steps charts`, which builds them, runs it.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test fails by panicking")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Examples of values, in `packaging/helm/ci`.
const VALUES: [&str; 4] = ["minimal", "full", "accounts", "cluster"];
/// The oldest and the newest that the validator knows, and one between.
const KUBERNETES: [&str; 3] = ["1.33.0", "1.35.0", "1.37.0"];
/// Where the chart has the relay find its files.
const FILES: &str = "/run/pepay-relay";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("packaging/helm")
}

fn values(name: &str) -> PathBuf {
    chart().join(format!("ci/{name}-values.yaml"))
}

fn run(tool: &mut Command) -> (bool, String, String) {
    let name = tool.get_program().to_string_lossy().into_owned();
    let output = tool.stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } =
        output.unwrap_or_else(|error| panic!("{name}: {error}; `.ci/steps charts` builds it"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.success(), text(stdout), text(stderr))
}

/// The rendered manifests, as text and as resources.
fn rendered(name: &str) -> (String, Vec<Value>) {
    let mut helm = Command::new("helm");
    helm.arg("template").arg("shop").arg(chart()).args(["--namespace", "orders", "--values"]).arg(values(name));
    let (done, text, told) = run(&mut helm);
    assert!(done, "{told}");
    let documents = text.split("\n---\n").map(|document| serde_yaml_ng::from_str::<Value>(document).unwrap());
    let resources = documents.filter(Value::is_object).collect();
    (text, resources)
}

fn the<'r>(resources: &'r [Value], kind: &str) -> &'r Value {
    resources.iter().find(|resource| resource["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn pod(resources: &[Value]) -> &Value {
    &the(resources, "Deployment")["spec"]["template"]["spec"]
}

/// The name of a pod for the tests.
const POD: &str = "shop-pepay-relay-6d5f7c9b8-x2x4z";

fn environment(resources: &[Value]) -> Vec<(&str, &str)> {
    let entries = pod(resources)["containers"][0]["env"].as_array().unwrap();
    let mut told = Vec::new();
    for entry in entries {
        let of_pod = (entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name").then_some(POD);
        told.push((entry["name"].as_str().unwrap(), entry["value"].as_str().or(of_pod).unwrap()));
    }
    told
}

#[test]
fn helm_finds_nothing_wrong_with_the_chart() {
    for name in VALUES {
        let (done, said, told) =
            run(Command::new("helm").args(["lint", "--strict"]).arg(chart()).arg("--values").arg(values(name)));
        assert!(done && said.contains("1 chart(s) linted, 0 chart(s) failed"), "{name}: {said}{told}");
    }
}

#[test]
fn what_the_chart_cannot_know_has_to_be_given() {
    let (done, said, told) = run(Command::new("helm").arg("template").arg("shop").arg(chart()));
    assert!(!done, "{said}");
    for value in ["/image/repository", "/settings", "/secrets/name"] {
        assert!(told.contains(value), "{value}: {told}");
    }
    // Several pods, and several shards, are those of a cluster.
    for alone in ["replicas=2", "cluster.shards=2"] {
        let mut helm = Command::new("helm");
        helm.arg("template").arg("shop").arg(chart()).arg("--values").arg(values("minimal")).args(["--set", alone]);
        let (done, _, told) = run(&mut helm);
        assert!(!done && told.contains("/cluster/enabled"), "{alone}: {told}");
    }
}

#[test]
fn every_resource_is_one_that_kubernetes_takes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, kinds) in VALUES.into_iter().zip([3, 5, 3, 3]) {
        let (text, resources) = rendered(name);
        let file = folder.path().join("rendered.yaml");
        fs::write(&file, text).unwrap();
        for version in KUBERNETES {
            let mut validate = Command::new("kubernetes-validate");
            let (done, said, told) = run(validate.args(["--strict", "--kubernetes-version", version]).arg(&file));
            let passed = [said.as_str(), &told].concat().matches("passed for resource").count();
            assert!(done && passed == kinds, "{name} {version}: {passed}: {said}{told}");
        }
        // Of the operator's own kind no Kubernetes has a schema.
        assert_eq!(resources.iter().filter(|one| one["kind"] != "ServiceMonitor").count(), kinds, "{name}");
    }
}

/// Writes a file for each path below [`FILES`] that `text` names into `folder`, and gives the text with their paths.
fn with_files(text: &str, folder: &Path) -> String {
    let certificate = fs::read(root().join("tests/fixtures/tls/localhost.cert.pem")).unwrap();
    for part in text.split(&format!("{FILES}/")).skip(1) {
        let path = folder.join(part.split(['"', '\n']).next().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_certificate = path.extension().is_some_and(|end| end == "pem");
        fs::write(&path, if is_certificate { certificate.as_slice() } else { b"secret" }).unwrap();
        // As fsGroup and defaultMode leave it.
        fs::set_permissions(path, fs::Permissions::from_mode(0o440)).unwrap();
    }
    text.replace(FILES, folder.to_str().unwrap())
}

#[test]
fn the_relay_takes_the_rendered_settings() {
    for (name, relay) in VALUES.into_iter().zip([
        "`pepay-relay` for devnet",
        "`shop` for mainnet",
        "`shops` for devnet",
        "`chain` for devnet",
    ]) {
        let (_, resources) = rendered(name);
        let folder = tempfile::tempdir().unwrap();
        let settings = the(&resources, "ConfigMap")["data"]["pepay-relay.toml"].as_str().unwrap();
        let file = folder.path().join("pepay-relay.toml");
        fs::write(&file, with_files(settings, folder.path())).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_pepay-relay"));
        check.env_clear().arg("--config").arg(&file).args(["check", "--offline"]);
        for (name, value) in environment(&resources) {
            check.env(name, with_files(value, folder.path()));
        }
        let (done, said, told) = run(&mut check);
        assert!(done && said.lines().count() == 1 && said.contains(relay), "{name}: {said}{told}");
    }
}

#[test]
fn a_cluster_has_a_node_a_pod_and_a_new_one_comes_before_an_old_one_leaves() {
    let (_, resources) = rendered("cluster");
    let deployment = &the(&resources, "Deployment")["spec"];
    assert_eq!(deployment["replicas"], 3);
    let strategy =
        serde_json::json!({ "type": "RollingUpdate", "rollingUpdate": { "maxUnavailable": 0, "maxSurge": 1 } });
    assert_eq!(deployment["strategy"], strategy);
    let told = environment(&resources);
    for (name, value) in
        [("CLUSTER__ENABLED", "true"), ("CLUSTER__SHARDS", "4"), ("CLUSTER__NODE", POD), ("WEBHOOK__VIA", "inbox")]
    {
        let name = format!("PEPAY_RELAY__{name}");
        assert!(told.contains(&(name.as_str(), value)), "{name}: {told:?}");
    }
}

#[test]
fn one_relay_that_leaves_before_the_next_one_comes_and_may_do_little() {
    for (name, deadline) in VALUES.into_iter().zip([20, 45, 20, 20]) {
        let (_, resources) = rendered(name);
        let deployment = &the(&resources, "Deployment")["spec"];
        if name != "cluster" {
            assert_eq!((&deployment["replicas"], &deployment["strategy"]["type"]), (&1.into(), &"Recreate".into()));
            assert!(!environment(&resources).iter().any(|(name, _)| name.contains("CLUSTER")), "{name}");
        }
        let pod = pod(&resources);
        let told = environment(&resources).into_iter().find(|(name, _)| *name == "PEPAY_RELAY__SHUTDOWN__DEADLINE");
        assert_eq!(told.unwrap().1, format!("{deadline}s"));
        assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > deadline + 10, "{name}");
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        let container = &pod["containers"][0];
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["capabilities"]["drop"][0], "ALL");
        for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
            let asked = &container[probe]["httpGet"];
            assert_eq!((&asked["path"], &asked["port"]), (&path.into(), &"admin".into()), "{name}");
        }
        // The user of the image.
        let user = format!("USER {0}:{0}\n", pod["securityContext"]["runAsUser"]);
        assert!(fs::read_to_string(root().join("packaging/Containerfile")).unwrap().contains(&user), "{user}");
        // Secrets are files: no variable holds one.
        assert!(
            !environment(&resources)
                .iter()
                .any(|(name, _)| name.starts_with("PEPAY_RELAY_") && !name.starts_with("PEPAY_RELAY__"))
        );
        assert!(!resources.iter().any(|one| one["kind"] == "Secret" || one["kind"] == "PodDisruptionBudget"), "{name}");
    }
}

#[test]
fn every_value_has_its_default_and_every_full_one_is_seen() {
    let parse = |path: PathBuf| serde_yaml_ng::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap();
    let names = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
    let defaults = names(&parse(chart().join("values.yaml")));
    // Helm itself adds `global`.
    let schema = parse(chart().join("values.schema.json"));
    let mut known = names(&schema["properties"]);
    known.remove("global");
    assert_eq!(defaults, known);
    let full = parse(values("full"));
    let (text, _) = rendered("full");
    for (name, value) in full.as_object().unwrap() {
        let seen = match value {
            Value::String(value) => value.lines().filter(|line| !line.is_empty()).all(|line| text.contains(line)),
            Value::Object(fields) => fields.values().filter_map(Value::as_str).all(|value| text.contains(value)),
            other => !other.is_null(),
        };
        assert!(seen, "{name} is not to be seen in what is rendered");
    }
}
