//! What a cron trigger asks for: its configuration, read and checked (CRON-10, CRON-15, CRON-18).

use super::expression::Expression;
use super::schedule::Schedule;
use crate::config::settings::WeekdayNumbering;
use iii_shards::builtin::firing::Target;
use iii_shards::control::triggers::Binding;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// What a trigger asks for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Trigger and condition.
    pub target: Target,
    /// The expression as written.
    pub text: String,
    /// When it fires.
    pub schedule: Schedule,
    /// A time zone that nobody knows; UTC is used.
    pub unknown_zone: Option<String>,
    /// Limit for a run in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether the latest tick of a gap is run afterwards.
    pub catch_up: bool,
    /// Which job it belongs to: triggers that ask for the same have the same one, in every engine.
    pub identity: Uuid,
}

impl Plan {
    /// Reads a trigger's configuration. `Err` is what its registrant is told.
    pub fn read(binding: Arc<Binding>, numbering: WeekdayNumbering) -> Result<Plan, String> {
        let config: Value = serde_json::from_slice(&binding.config).unwrap_or_default();
        let text = config.get("expression").and_then(Value::as_str).unwrap_or("");
        if text.is_empty() {
            return Err("Cron expression is required".to_owned());
        }
        let expression = Expression::parse(text, numbering)
            .map_err(|detail| format!("Invalid cron expression '{text}': {detail}"))?;
        let zone_name = config.get("timezone").and_then(Value::as_str).unwrap_or("UTC");
        let zone = TimeZone::get(zone_name);
        let unknown_zone = zone.is_err().then(|| zone_name.to_owned());
        let zone = zone.unwrap_or(TimeZone::UTC);
        let metadata: Option<Value> = binding.metadata.as_deref().and_then(|raw| serde_json::from_slice(raw).ok());
        let target = Target::new(binding);
        let parts = [
            &*target.binding.namespace,
            &*target.binding.function_id,
            &expression.to_string(),
            zone.iana_name().unwrap_or("UTC"),
            target.condition.as_deref().unwrap_or(""),
            &metadata.map(|value| canonical(&value)).unwrap_or_default(),
        ];
        let identity = Uuid::new_v5(&Uuid::NAMESPACE_OID, Value::from(parts.to_vec()).to_string().as_bytes());
        let text = text.to_owned();
        let timeout_ms = config.get("timeout_ms").and_then(Value::as_u64).filter(|limit| *limit > 0);
        let catch_up = config.get("catch_up") == Some(&Value::Bool(true));
        let schedule = Schedule::new(expression, zone);
        Ok(Plan { target, text, schedule, unknown_zone, timeout_ms, catch_up, identity })
    }
}

/// JSON with the members of objects in order of their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members =
                members.iter().map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: &str, metadata: Option<&str>) -> Result<Plan, String> {
        let binding = Binding {
            id: "t".into(),
            trigger_type: "cron".into(),
            namespace: "default".into(),
            function_id: "f".into(),
            config: config.as_bytes().into(),
            metadata: metadata.map(|text| text.as_bytes().into()),
            trigger_namespace: None,
            home: "default".into(),
            registrant: None,
        };
        Plan::read(Arc::new(binding), WeekdayNumbering::Posix)
    }

    // CRON-18
    #[test]
    fn what_is_refused_and_how() {
        for config in ["{}", "null", "[]", r#"{"expression":""}"#, r#"{"expression":5}"#, r#"{"cron":"* * * * *"}"#] {
            assert_eq!(read(config, None).map(drop), Err("Cron expression is required".to_owned()), "{config}");
        }
        let refused = read(r#"{"expression":"61 * * * * *"}"#, None).map(drop);
        let text = "Invalid cron expression '61 * * * * *': Seconds must be between 0 and 59 ('61' specified)";
        assert_eq!(refused, Err(text.to_owned()));
    }

    // CRON-10, CRON-15, CRON-DB-2, CRON-DB-6
    #[test]
    fn members_beside_the_expression() {
        let plan = read(r#"{"expression":"@daily","timezone":"Mars/Olympus","x":1}"#, None).expect("valid");
        assert_eq!((plan.unknown_zone.as_deref(), plan.timeout_ms, plan.catch_up), (Some("Mars/Olympus"), None, false));
        let plan =
            read(r#"{"expression":"@daily","timeout_ms":50,"catch_up":true,"timezone":7}"#, None).expect("valid");
        assert_eq!((plan.unknown_zone, plan.timeout_ms, plan.catch_up), (None, Some(50), true));
    }

    // CRON-DB-1
    #[test]
    fn the_same_wish_has_the_same_identity() {
        let of = |config: &str, metadata| read(config, metadata).expect("valid").identity;
        let daily = of(r#"{"expression":"@daily"}"#, None);
        assert_eq!(daily, of(r#"{"expression":" 0 0 * * * ","timezone":"UTC"}"#, None));
        assert_ne!(daily, of(r#"{"expression":"@daily","timezone":"Europe/Berlin"}"#, None));
        assert_ne!(daily, of(r#"{"expression":"@daily","condition_function_id":"c"}"#, None));
        assert_ne!(daily, of(r#"{"expression":"@daily"}"#, Some("1")));
        let metadata = |text| of(r#"{"expression":"@daily"}"#, Some(text));
        assert_eq!(metadata(r#"{"a":1,"b":[2,{"d":1,"c":2}]}"#), metadata(r#"{ "b":[2,{"c":2,"d":1}],"a":1}"#));
    }
}
