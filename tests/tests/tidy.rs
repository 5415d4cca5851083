//! What no lint can check: the import arrows of `STYLE.md`, a header on every file, and nothing at
//! the top level but the six folders and the documents.

use std::path::{Path, PathBuf};

/// The workspace's folders; also the only ones at its top level.
const FOLDERS: [&str; 6] = ["ring", "antientropy", "client", "node", "tests", "bench"];

fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent()
        .expect("the crate lies in the workspace")
        .to_owned()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return found;
    };
    for entry in entries {
        let path = entry.expect("readable").path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    let text = std::fs::read_to_string(path);
    text.map_err(|e| format!("{}: {e}", path.display()))
        .expect("a readable file")
}

/// Lines of code without comments, up to the file's tests.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .filter(|line| !line.trim_start().starts_with("//"))
}

/// No code line of `folder` names one of `words`.
fn check_absent(folder: &str, words: &[&str]) {
    for path in sources(&root().join(folder)) {
        for line in code(&read(&path)) {
            for word in words {
                assert!(
                    !line.contains(word),
                    "{}: `{word}` in: {line}",
                    path.display()
                );
            }
        }
    }
}

/// The dependencies (not those of tests) that a crate's manifest names.
fn dependencies(folder: &str) -> Vec<String> {
    let text = read(&root().join(folder).join("Cargo.toml"));
    text.lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

const IO: [&str; 12] = [
    "tokio::",
    "quinn::",
    "fjall::",
    "openraft::",
    "metrics::",
    "tracing::",
    "Instant::now",
    "SystemTime",
    "rand::",
    "std::fs",
    "std::net",
    "std::thread",
];

#[test]
fn crates_depend_only_downwards() {
    let allowed: [(&str, &[&str]); 4] = [
        ("ring", &[]),
        ("antientropy", &["quorate-ring"]),
        ("client", &["quorate-ring"]),
        (
            "node",
            &["quorate-ring", "quorate-antientropy", "quorate-client"],
        ),
    ];
    for (folder, allowed) in allowed {
        let ours = dependencies(folder)
            .into_iter()
            .filter(|name| name.starts_with("quorate-"));
        for name in ours {
            assert!(
                allowed.contains(&name.as_str()),
                "{folder} depends on {name}"
            );
        }
    }
}

#[test]
fn pure_crates_do_no_io() {
    for folder in ["ring/src", "antientropy/src", "node/src/core"] {
        check_absent(folder, &IO);
    }
    for folder in ["ring", "antientropy"] {
        for name in dependencies(folder) {
            let is_io = IO
                .iter()
                .any(|word| word.strip_suffix("::") == Some(name.as_str()));
            assert!(!is_io, "{folder} depends on {name}");
        }
    }
}

#[test]
fn the_core_knows_neither_shell_nor_client_nor_command_line() {
    let words = [
        "quorate_client",
        "crate::shell",
        "crate::cli",
        "crate::config",
    ];
    check_absent("node/src/core", &words);
}

#[test]
fn the_shell_and_the_configuration_do_not_know_the_command_line() {
    check_absent("node/src/shell", &["crate::cli"]);
    check_absent(
        "node/src/config",
        &["crate::cli", "crate::shell", "crate::core"],
    );
}

#[test]
fn every_file_says_what_it_is() {
    for folder in FOLDERS {
        for path in sources(&root().join(folder)) {
            let text = read(&path);
            assert!(text.starts_with("//! "), "{} has no header", path.display());
        }
    }
}

#[test]
fn the_top_level_holds_the_six_folders_and_nothing_else() {
    let files = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
    ];
    // What git ignores may lie around.
    let ignored = ["target", "quorate-data"];
    for entry in std::fs::read_dir(root()).expect("readable") {
        let name = entry.expect("readable").file_name();
        let name = name.to_string_lossy();
        let known = name.starts_with('.')
            || files.contains(&&*name)
            || FOLDERS.contains(&&*name)
            || ignored.contains(&&*name);
        assert!(known, "{name} is not to be at the top level");
    }
}
