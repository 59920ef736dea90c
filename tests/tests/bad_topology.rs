//! Topology files that cannot be served: every problem at once, with its line.

use std::process::Output;

use keyloom_tests::keyloom::{run, write_topology};

const BAD: &str = "\
default:
  endpoint: http://127.0.0.1:1
  endpont: http://127.0.0.1:2
registryPrefix: /registry
backends:
- name: pods
  endpoint: http://127.0.0.1:3
  prefix:
    prefix: pods
- name: pods
  endpoint: ftp://127.0.0.1:4
  regexp:
    key: ^(pods
- name: both
  endpoint: http://127.0.0.1:5
  prefix:
    prefix: secrets
  namespace:
    namespace: default
- name: none
  endpoint: http://${KEYLOOM_TESTS_NOBODY_SETS_THIS}:6
";

/// What is wrong in which line of [`BAD`], and a word of what is said of it.
const PROBLEMS: [(usize, &str); 7] = [
    (3, "endpont"),
    (10, "pods"),
    (11, "unknown scheme"),
    (13, "regexp"),
    (14, "exactly one"),
    (20, "exactly one"),
    (21, "KEYLOOM_TESTS_NOBODY_SETS_THIS"),
];

fn says(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn assert_names_every_problem(text: &str) {
    for (line, word) in PROBLEMS {
        let place = format!("topology.yaml:{line}:");
        let named = text
            .lines()
            .any(|said| said.contains(&place) && said.contains(word));
        assert!(named, "nothing about {word} in line {line}:\n{text}");
    }
}

#[test]
fn check_names_every_problem_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let file = write_topology(home.path(), BAD);
    let output = run(&["topology", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    assert_names_every_problem(&says(&output));
}

#[test]
fn serve_refuses_to_start_and_says_as_much() {
    let home = tempfile::tempdir().unwrap();
    let file = write_topology(home.path(), BAD);
    let listen = [
        "--listen",
        "http://127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
    ];
    let arguments = [
        &["serve", "--topology", file.to_str().unwrap()],
        &listen[..],
    ]
    .concat();
    let output = run(&arguments);
    assert!(!output.status.success());
    assert_names_every_problem(&says(&output));
}

#[test]
fn files_that_are_no_topology_are_refused() {
    let home = tempfile::tempdir().unwrap();
    for text in [
        "- a\n- b\n",
        "default: [",
        "\u{1}\u{2}",
        "default:\n\tendpoint: x\n",
    ] {
        let file = write_topology(home.path(), text);
        let output = run(&[
            "serve",
            "--topology",
            file.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ]);
        assert!(!output.status.success(), "{text:?}");
        let said = says(&output);
        assert!(
            !said.is_empty() && !said.contains("panicked"),
            "{text:?}: {said}"
        );
    }
    let missing = home.path().join("absent.yaml");
    let output = run(&["topology", "check", missing.to_str().unwrap()]);
    assert!(!output.status.success());
    assert!(says(&output).contains("absent.yaml"), "{}", says(&output));
}

#[test]
fn a_good_file_is_good_without_its_stores() {
    let home = tempfile::tempdir().unwrap();
    let file = write_topology(home.path(), "default: {endpoint: 'http://127.0.0.1:1'}\n");
    let output = run(&["topology", "check", file.to_str().unwrap()]);
    assert!(output.status.success(), "{}", says(&output));
}
