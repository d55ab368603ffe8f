//! Secrets and parameters. Their values are compared here and never shown.

use serde_json::{Map, Value, json};

use super::{Current, Tags, Update, or_missing, text_at};
use crate::apply::compare::Change;
use crate::client::ApiClient;

pub(super) async fn read_secret(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let id = json!({ "SecretId": body["Name"] });
    let Some(found) = or_missing(client.secrets("DescribeSecret", &id).await)? else { return Ok(None) };
    // It can be had back until its time is over; that is how it is made again.
    if found["DeletedDate"].is_number() {
        return Ok(None);
    }
    let mut hidden_changes = Vec::new();
    if let Some(declared) = body.get("SecretString") {
        let value = or_missing(client.secrets("GetSecretValue", &id).await)?;
        if value.is_none_or(|value| value["SecretString"] != *declared) {
            hidden_changes.push(Change::hidden("SecretString"));
        }
    }
    let value = json!({ "Name": body["Name"], "Description": found["Description"], "SecretString": body.get("SecretString") });
    Ok(Some(Current { arn: text_at(&found, "/ARN")?, value, tags: Tags::new(), hidden_changes }))
}

pub(super) async fn create_secret(client: &ApiClient, body: &Map<String, Value>) -> anyhow::Result<String> {
    let id = json!({ "SecretId": body["Name"] });
    let was_deleted = or_missing(client.secrets("DescribeSecret", &id).await)?
        .is_some_and(|found| found["DeletedDate"].is_number());
    let answer = if was_deleted {
        client.secrets("RestoreSecret", &id).await?;
        client.secrets("UpdateSecret", &with_id(body)).await?
    } else {
        client.secrets("CreateSecret", &Value::Object(body.clone())).await?
    };
    text_at(&answer, "/ARN")
}

pub(super) async fn update_secret(update: Update<'_>) -> anyhow::Result<()> {
    update.client.secrets("UpdateSecret", &with_id(update.body)).await.map(drop)
}

fn with_id(body: &Map<String, Value>) -> Value {
    let mut body = body.clone();
    let name = body.remove("Name");
    body.extend(name.map(|name| ("SecretId".to_owned(), name)));
    Value::Object(body)
}

/// It can be had back for the time that Secrets Manager keeps what is deleted.
pub(super) async fn delete_secret(client: &ApiClient, current: &Current) -> anyhow::Result<()> {
    client.secrets("DeleteSecret", &json!({ "SecretId": current.arn })).await.map(drop)
}

pub(super) async fn read_parameter(
    client: &ApiClient,
    body: &Map<String, Value>,
) -> anyhow::Result<Option<Current>> {
    let asked = json!({ "Name": body["Name"], "WithDecryption": true });
    let Some(answer) = or_missing(client.ssm("GetParameter", &asked).await)? else { return Ok(None) };
    let mut found = answer["Parameter"].clone();
    let arn = text_at(&found, "/ARN")?;
    let mut hidden_changes = Vec::new();
    if found["Type"] == "SecureString"
        && body.get("Value").is_some_and(|declared| found["Value"] != *declared)
    {
        hidden_changes.push(Change::hidden("Value"));
        found["Value"] = body["Value"].clone();
    }
    if body.contains_key("Description") {
        let filter = json!([{ "Key": "Name", "Option": "Equals", "Values": [body["Name"]] }]);
        let answer = client.ssm("DescribeParameters", &json!({ "ParameterFilters": filter })).await?;
        found["Description"] = answer["Parameters"][0]["Description"].clone();
    }
    Ok(Some(Current { arn, value: found, tags: Tags::new(), hidden_changes }))
}

/// Makes it, or gives it another value.
pub(super) async fn put_parameter(client: &ApiClient, body: &Map<String, Value>) -> anyhow::Result<String> {
    let mut body = body.clone();
    let name = body["Name"].clone();
    body.insert("Overwrite".to_owned(), true.into());
    client.ssm("PutParameter", &Value::Object(body)).await?;
    let answer = client.ssm("GetParameter", &json!({ "Name": name })).await?;
    text_at(&answer, "/Parameter/ARN")
}

pub(super) async fn delete_parameter(client: &ApiClient, current: &Current) -> anyhow::Result<()> {
    client.ssm("DeleteParameter", &json!({ "Name": current.value["Name"] })).await.map(drop)
}
