//! A request as the services read it: which operation, of which service, about what, by whose credentials.

use http::{Method, Request};
use hyper::body::Bytes;

/// Whose API a call belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Ec2,
    Sts,
    Ebs,
    Kms,
    RecycleBin,
    Quotas,
}

impl Service {
    /// As actions of a policy begin.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
            Self::Ebs => "ebs",
            Self::Kms => "kms",
            Self::RecycleBin => "rbin",
            Self::Quotas => "servicequotas",
        }
    }
}

/// A call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) service: Service,
    /// `DescribeInstances`, `ListSnapshotBlocks`, …; empty where the path is none of theirs.
    pub(crate) operation: String,
    /// The form of a query call, the query string, or the members of a JSON body: what is no text there, as JSON.
    pub(crate) parameters: Vec<(String, String)>,
    /// The parts of the path of a REST call.
    pub(crate) path: Vec<String>,
    /// The access key; none where the request is not signed.
    pub(crate) access_key: Option<String>,
    /// The region that it is signed for.
    pub(crate) region: Option<String>,
}

impl Call {
    pub(crate) fn read(request: &Request<Bytes>) -> Self {
        let (access_key, region) = signer(request);
        let query = request.uri().query().unwrap_or_default();
        let path: Vec<String> = request
            .uri()
            .path()
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| decoded(part, false))
            .collect();
        let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
        if let Some((interface, operation)) = target.and_then(|target| target.split_once('.')) {
            let service = match interface {
                "TrentService" => Service::Kms,
                _ => Service::Quotas,
            };
            let known = matches!(interface, "TrentService" | "ServiceQuotasV20190624");
            let operation = if known { operation.to_owned() } else { String::new() };
            let parameters = members(request.body());
            return Self { service, operation, parameters, path, access_key, region };
        }
        if path.is_empty() {
            // The query APIs take the form as a body, or behind the question mark.
            let form = String::from_utf8_lossy(request.body());
            let mut parameters = pairs(query, true);
            parameters.extend(pairs(&form, true));
            let value = |name| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
            let service =
                if value("Version").as_deref() == Some("2011-06-15") { Service::Sts } else { Service::Ec2 };
            let operation = value("Action").unwrap_or_default();
            return Self { service, operation, parameters, path, access_key, region };
        }
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let operation = match (request.method(), parts.as_slice()) {
            (&Method::GET, ["snapshots", _, "blocks"]) => "ListSnapshotBlocks",
            (&Method::GET, ["snapshots", _, "blocks", _]) => "GetSnapshotBlock",
            (&Method::GET, ["snapshots", _, "changedblocks"]) => "ListChangedBlocks",
            _ => "",
        };
        let of_bin = match (request.method(), parts.as_slice()) {
            (&Method::POST, ["list-rules"]) => Some("ListRules"),
            (&Method::GET, ["rules", _]) => Some("GetRule"),
            _ => None,
        };
        if let Some(operation) = of_bin {
            let (service, operation) = (Service::RecycleBin, operation.to_owned());
            return Self {
                service,
                operation,
                parameters: members(request.body()),
                path,
                access_key,
                region,
            };
        }
        // In a path's query a plus is a plus: tokens have them.
        let parameters = pairs(query, false);
        Self { service: Service::Ebs, operation: operation.to_owned(), parameters, path, access_key, region }
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// A list: `NAME.1`, `NAME.2`, ….
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        (1_u32..).map_while(|number| self.value(&format!("{name}.{number}"))).map(ToOwned::to_owned).collect()
    }

    /// Filters: names with their values.
    pub(crate) fn filters(&self) -> Vec<(String, Vec<String>)> {
        (1_u32..)
            .map_while(|number| {
                let name = self.value(&format!("Filter.{number}.Name"))?;
                Some((name.to_owned(), self.list(&format!("Filter.{number}.Value"))))
            })
            .collect()
    }

    /// The tags that a snapshot is to be created with.
    pub(crate) fn snapshot_tags(&self) -> Vec<(String, String)> {
        (1_u32..)
            .map_while(|number| {
                let specification = format!("TagSpecification.{number}");
                let kind = self.value(&format!("{specification}.ResourceType"))?;
                Some((kind == "snapshot", specification))
            })
            .filter(|(is_for_snapshots, _)| *is_for_snapshots)
            .flat_map(|(_, specification)| {
                (1_u32..).map_while(move |number| {
                    let key = self.value(&format!("{specification}.Tag.{number}.Key"))?;
                    let value =
                        self.value(&format!("{specification}.Tag.{number}.Value")).unwrap_or_default();
                    Some((key.to_owned(), value.to_owned()))
                })
            })
            .collect()
    }
}

/// The access key and region of a signature of version 4. The signature itself is not checked.
fn signer(request: &Request<Bytes>) -> (Option<String>, Option<String>) {
    let credential = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split("Credential=").nth(1))
        .and_then(|value| value.split(',').next());
    let mut scope = credential.unwrap_or_default().split('/').map(ToOwned::to_owned);
    let key = scope.next().filter(|key| !key.is_empty());
    (key, scope.nth(1))
}

/// The members of a JSON object.
fn members(body: &[u8]) -> Vec<(String, String)> {
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    object.unwrap_or_default().into_iter().map(|(name, value)| (name, text(value))).collect()
}

fn pairs(text: &str, plus_is_space: bool) -> Vec<(String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key, plus_is_space), decoded(value, plus_is_space))
        })
        .collect()
}

fn decoded(text: &str, plus_is_space: bool) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let mut after = rest.clone();
        match (byte, after.next().and_then(hex), after.next().and_then(hex)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4) | low);
                rest = after;
            }
            (b'+', ..) if plus_is_space => bytes.push(b' '),
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read() {
        let body = "Action=CreateSnapshot&Version=2016-11-15&VolumeId=vol-1&TagSpecification.1.ResourceType=snapshot\
            &TagSpecification.1.Tag.1.Key=CreatedBy&TagSpecification.1.Tag.1.Value=Microsoft+Defender%20for+Cloud\
            &Filter.1.Name=tag%3Aa&Filter.1.Value.1=x&Filter.1.Value.2=y%2Bz";
        let request = Request::post("/")
            .header(
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDTEST/20260101/eu-west-3/ec2/aws4_request, SignedHeaders=host, Signature=0",
            )
            .body(Bytes::from(body))
            .unwrap();
        let call = Call::read(&request);
        assert_eq!((call.service, call.operation.as_str()), (Service::Ec2, "CreateSnapshot"));
        assert_eq!(
            (call.access_key.as_deref(), call.region.as_deref()),
            (Some("AKIDTEST"), Some("eu-west-3"))
        );
        assert_eq!(
            call.snapshot_tags(),
            [("CreatedBy".to_owned(), "Microsoft Defender for Cloud".to_owned())]
        );
        assert_eq!(call.filters(), [("tag:a".to_owned(), vec!["x".to_owned(), "y+z".to_owned()])]);
    }

    #[test]
    fn a_plus_in_a_token_stays_one() {
        let request =
            Request::get("/snapshots/snap-1/blocks/17?blockToken=a+b%2Fc%3D").body(Bytes::new()).unwrap();
        let call = Call::read(&request);
        assert_eq!((call.service, call.operation.as_str()), (Service::Ebs, "GetSnapshotBlock"));
        assert_eq!(call.value("blockToken"), Some("a+b/c="));
        assert_eq!(call.access_key, None);
    }

    #[test]
    fn a_target_names_service_and_operation() {
        let request = Request::post("/")
            .header("x-amz-target", "TrentService.DescribeKey")
            .body(Bytes::from(r#"{"KeyId": "key/1", "GrantTokens": ["x"]}"#))
            .unwrap();
        let call = Call::read(&request);
        assert_eq!((call.service, call.operation.as_str()), (Service::Kms, "DescribeKey"));
        assert_eq!((call.value("KeyId"), call.value("GrantTokens")), (Some("key/1"), Some(r#"["x"]"#)));
        let request = Request::get("/rules/abc").body(Bytes::new()).unwrap();
        let call = Call::read(&request);
        assert_eq!((call.service, call.operation.as_str()), (Service::RecycleBin, "GetRule"));
        let request =
            Request::post("/").header("x-amz-target", "Other.DescribeKey").body(Bytes::new()).unwrap();
        assert_eq!(Call::read(&request).operation, "");
    }
}
