//! What people see of it.

use std::fmt::Write as _;

use serde_json::Value;

use super::compare::Change;
use super::images::LocalImage;
use super::manifest::{Item, Kind};
use super::plan::{Action, Plan, Step};
use crate::output::{note, say};
use crate::table::size;

/// The longest value that is shown whole, in characters.
const VALUE_CHARS_MAX: usize = 100;

/// Where progress is printed: on standard output, or beside it when that is for JSON.
pub(super) struct Printer {
    pub(super) json: bool,
}

impl Printer {
    pub(super) fn line(&self, text: &str) -> std::io::Result<()> {
        if self.json {
            note!("{text}");
            return Ok(());
        }
        say!("{text}")
    }

    /// What would be done.
    pub(super) fn plan(&self, images: &[LocalImage], plan: &Plan) -> std::io::Result<()> {
        self.line(&plan_text(images, &plan.steps))
    }

    /// What would be removed.
    pub(super) fn removals(&self, items: &[(Item, bool)]) -> std::io::Result<()> {
        let mut text = String::new();
        for (item, is_there) in items {
            let (sign, rest) = if *is_there { ('-', "") } else { ('=', "  (not there)") };
            let _ = writeln!(text, "{}{rest}", heading(sign, &item.kind.to_string(), &item.name));
        }
        let count = items.iter().filter(|(_, is_there)| *is_there).count();
        let _ = write!(text, "{count} to delete.");
        self.line(&text)
    }
}

fn heading(sign: char, kind: &str, name: &str) -> String {
    format!("  {sign} {kind:<16} {name}")
}

fn plan_text(images: &[LocalImage], steps: &[Step]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for image in images {
        let sign = if image.is_there { '=' } else { '+' };
        let from = format!("  from {} ({})", image.path.display(), size(image.bytes));
        let _ = writeln!(text, "{}{from}", heading(sign, "image", &image.name));
    }
    let (mut created, mut updated, mut kept) = (0, 0, 0);
    let pushed = images.iter().filter(|image| !image.is_there).count();
    for Step { item, action, .. } in steps {
        let (sign, changes) = match action {
            Action::Create => ('+', &[][..]),
            Action::Update(changes) | Action::Register(changes) => ('~', changes.as_slice()),
            Action::Keep => ('=', &[][..]),
        };
        *match action {
            Action::Create => &mut created,
            Action::Update(_) | Action::Register(_) => &mut updated,
            Action::Keep => &mut kept,
        } += 1;
        let rest = if matches!(action, Action::Register(_)) { "  (a new revision)" } else { "" };
        let _ = writeln!(text, "{}{rest}", heading(sign, &item.kind.to_string(), &item.name));
        for change in changes {
            let _ = writeln!(text, "      {}", change_text(item.kind, change));
        }
    }
    if pushed > 0 {
        let _ = write!(text, "{pushed} to push, ");
    }
    let _ = write!(text, "{created} to create, {updated} to update, {kept} unchanged.");
    text
}

fn change_text(kind: Kind, change: &Change) -> String {
    let Change { path, from, to } = change;
    match (from, to) {
        (None, None) => format!("{path}: (another value)"),
        (None, Some(to)) => format!("{path}: {}", added(kind, path, to)),
        (Some(from), None) => format!("{path}: {} → nothing", value_text(from)),
        (Some(from), Some(to)) => format!("{path}: {} → {}", value_text(from), added(kind, path, to)),
    }
}

/// A declared value. The name of a family stands for a revision that is yet to be registered.
fn added(kind: Kind, path: &str, to: &Value) -> String {
    match to {
        Value::String(family)
            if kind == Kind::Service && path == "taskDefinition" && !family.contains(':') =>
        {
            format!("{family} (the new revision)")
        }
        other => value_text(other),
    }
}

/// A value in a line, with names in place of ARNs.
fn value_text(value: &Value) -> String {
    let text = match value {
        Value::String(text) => short(text).to_owned(),
        other => with_names(other.clone()).to_string(),
    };
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    let cut: String = text.chars().take(VALUE_CHARS_MAX).collect();
    format!("{cut}…")
}

fn with_names(value: Value) -> Value {
    match value {
        Value::String(text) => short(&text).into(),
        Value::Array(items) => items.into_iter().map(with_names).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (name, with_names(value))).collect()
        }
        other => other,
    }
}

/// The name in an ARN; other texts as they are.
fn short(text: &str) -> &str {
    let Some(resource) = text.strip_prefix("arn:").and_then(|rest| rest.splitn(5, ':').nth(4)) else {
        return text;
    };
    let mut parts = resource.split('/');
    match parts.next() {
        Some("targetgroup") => parts.next().unwrap_or(text),
        Some("loadbalancer" | "listener" | "listener-rule") => parts.nth(1).unwrap_or(text),
        Some(_) => parts.next_back().unwrap_or(text),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_told_by_name() {
        let change = |from: Value, to: Value| {
            let there = |value: Value| Some(value).filter(|value| !value.is_null());
            Change { path: "taskDefinition".into(), from: there(from), to: there(to) }
        };
        let arn = "arn:aws:ecs:us-east-1:123456789012:task-definition/web:3";
        for (change, expected) in [
            (change(json!(arn), json!("web")), "taskDefinition: web:3 → web (the new revision)"),
            (change(json!(arn), json!("web:4")), "taskDefinition: web:3 → web:4"),
            (change(json!(arn), json!(null)), "taskDefinition: web:3 → nothing"),
            (change(json!(null), json!([1])), "taskDefinition: [1]"),
            (Change::hidden("SecretString"), "SecretString: (another value)"),
        ] {
            assert_eq!(change_text(Kind::Service, &change), expected);
        }
    }

    #[test]
    fn arns_are_shown_as_names() {
        for (arn, name) in [
            ("arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/web/73e2d6bc24d8a067", "web"),
            ("arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/app/shop/50dc", "shop"),
            ("arn:aws:ecs:us-east-1:1:cluster/prod", "prod"),
            ("arn:nonsense", "arn:nonsense"),
            ("web", "web"),
        ] {
            assert_eq!(short(arn), name, "{arn}");
        }
        assert_eq!(value_text(&json!("x".repeat(200))).chars().count(), VALUE_CHARS_MAX + 1);
    }
}
