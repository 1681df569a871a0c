//! `carrack encryption`: what is encrypted on disk, and its keys.

use anyhow::Result;
use serde_json::{Value, json};

use super::backup::existing;
use crate::args::{self, EncryptionAction};
use crate::keep::{Live, Offline};
use crate::process;

/// Shows or changes keys.
///
/// # Errors
/// There is no cluster in the directory, or its keys cannot be changed.
pub fn run(encryption: &args::Encryption) -> Result<()> {
    let dirs = existing(&encryption.at)?;
    process::log("warn")?;
    let (method, path) = match encryption.action {
        EncryptionAction::Status => ("GET", "encryption"),
        EncryptionAction::Rotate => ("POST", "encryption/rotate"),
        EncryptionAction::Retire => ("POST", "encryption/retire"),
        EncryptionAction::Reload => ("POST", "encryption/reload"),
    };
    let answer = process::runtime()?.block_on(async {
        if let Some(live) = Live::of(&dirs)? {
            return live.json(method, path, Vec::new()).await;
        }
        let keeper = Offline::open(&dirs)?.keeper;
        match encryption.action {
            EncryptionAction::Status => {}
            EncryptionAction::Rotate => return Ok(json!({"key": keeper.rotate().await?})),
            EncryptionAction::Retire => return Ok(json!({"retired": keeper.retire().await?})),
            EncryptionAction::Reload => keeper.reload().await?,
        }
        anyhow::Ok(serde_json::to_value(keeper.describe())?)
    })?;
    match encryption.action {
        EncryptionAction::Rotate => println!(
            "everything is encrypted with {} now; old keys stay for old backups until `carrack encryption retire`",
            answer["key"].as_str().unwrap_or_default()
        ),
        EncryptionAction::Retire => println!(
            "removed {}; only backups made since can be restored",
            names(&answer["retired"]).unwrap_or_else(|| "nothing".into())
        ),
        EncryptionAction::Status | EncryptionAction::Reload => show(&answer),
    }
    Ok(())
}

fn names(list: &Value) -> Option<String> {
    let names: Vec<&str> = list.as_array()?.iter().filter_map(Value::as_str).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn show(rules: &Value) {
    for rule in rules.as_array().into_iter().flatten() {
        let resources = names(&rule["resources"]).unwrap_or_default();
        let how = match rule["encrypts"].as_str() {
            Some(key) => format!("encrypted with {key}"),
            None => "in clear".to_owned(),
        };
        let also =
            names(&rule["reads"]).map_or_else(String::new, |names| format!("; {names} can still be read"));
        println!("{resources}: {how}{also}");
    }
}
