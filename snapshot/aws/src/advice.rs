//! What is asked before a scan: KMS, the Recycle Bin, Service Quotas.

use std::error::Error;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_kms::types::KeyState as KmsState;
use aws_sdk_rbin::types::{LockState, ResourceTag, ResourceType, RetentionPeriodUnit};
use stillframe_cloud::api::{Advice, Answer, ApiError, ErrorKind, KeyState, Page, RetentionRule};

use crate::connection::Connection;
use crate::errors::{self, Call};

/// The most that the Recycle Bin gives in one page.
const RULES_A_PAGE: i32 = 1_000;
/// The code of a quota that was not set for the account, or is unknown.
const NO_QUOTA: &str = "NoSuchResourceException";

impl Advice for Connection {
    fn describe_key(&self, key: &str) -> Answer<'_, KeyState> {
        let key = key.to_owned();
        Box::pin(async move {
            let call = Call { operation: "kms:DescribeKey", resource: Some(&key) };
            let kms = reachable(&self.advice.kms, &call)?;
            let reply =
                kms.describe_key().key_id(&key).send().await.map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let state = reply.key_metadata.and_then(|metadata| metadata.key_state);
            match state {
                Some(KmsState::Enabled) => Ok(KeyState::Enabled),
                Some(KmsState::Disabled) => Ok(KeyState::Disabled),
                Some(KmsState::PendingDeletion | KmsState::PendingReplicaDeletion) => {
                    Ok(KeyState::PendingDeletion)
                }
                Some(other) => {
                    let word = errors::request_word(other.as_str());
                    word.map(KeyState::Other).ok_or_else(|| lacks(&call, "a key's state", request_id))
                }
                None => Err(lacks(&call, "a key's state", request_id)),
            }
        })
    }

    fn recycle_bin_rules(&self, page: Option<String>) -> Answer<'_, Page<String>> {
        Box::pin(async move {
            let call = Call { operation: "rbin:ListRules", resource: None };
            let bin = reachable(&self.advice.recycle_bin, &call)?;
            let reply = bin
                .list_rules()
                .resource_type(ResourceType::EbsSnapshot)
                .max_results(RULES_A_PAGE)
                .set_next_token(page)
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let next = reply.next_token.filter(|token| !token.is_empty());
            let rules = reply.rules.unwrap_or_default().into_iter();
            Ok(Page { items: rules.filter_map(|rule| rule.identifier).collect(), next })
        })
    }

    fn recycle_bin_rule(&self, id: &str) -> Answer<'_, RetentionRule> {
        let id = id.to_owned();
        Box::pin(async move {
            let call = Call { operation: "rbin:GetRule", resource: Some(&id) };
            let bin = reachable(&self.advice.recycle_bin, &call)?;
            let reply = bin.get_rule().identifier(&id).send().await.map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let period =
                reply.retention_period.ok_or_else(|| lacks(&call, "a retention period", request_id))?;
            // Days are the only unit that there is.
            let is_days = period.retention_period_unit == RetentionPeriodUnit::Days;
            let days = u64::try_from(period.retention_period_value).ok().filter(|_| is_days);
            Ok(RetentionRule {
                days: days.unwrap_or(0),
                covers_snapshots: reply.resource_type == Some(ResourceType::EbsSnapshot),
                resource_tags: tags(reply.resource_tags),
                exclude_tags: tags(reply.exclude_resource_tags),
                locked: matches!(reply.lock_state, Some(LockState::Locked | LockState::PendingUnlock)),
                id: id.clone(),
            })
        })
    }

    fn quota(&self, service_code: &str, quota_code: &str) -> Answer<'_, Option<f64>> {
        let (service_code, quota_code) = (service_code.to_owned(), quota_code.to_owned());
        Box::pin(async move {
            let call = Call { operation: "servicequotas:GetServiceQuota", resource: Some(&quota_code) };
            let quotas = reachable(&self.advice.quotas, &call)?;
            let request = quotas.get_service_quota().service_code(service_code).quota_code(&quota_code);
            match request.send().await {
                Ok(reply) => Ok(reply.quota.and_then(|quota| quota.value)),
                Err(error) if error.code() == Some(NO_QUOTA) => Ok(None),
                Err(error) => Err(failed(&call, &error)),
            }
        })
    }

    fn default_quota(&self, service_code: &str, quota_code: &str) -> Answer<'_, Option<f64>> {
        let (service_code, quota_code) = (service_code.to_owned(), quota_code.to_owned());
        Box::pin(async move {
            let call =
                Call { operation: "servicequotas:GetAWSDefaultServiceQuota", resource: Some(&quota_code) };
            let quotas = reachable(&self.advice.quotas, &call)?;
            let request =
                quotas.get_aws_default_service_quota().service_code(service_code).quota_code(&quota_code);
            match request.send().await {
                Ok(reply) => Ok(reply.quota.and_then(|quota| quota.value)),
                Err(error) if error.code() == Some(NO_QUOTA) => Ok(None),
                Err(error) => Err(failed(&call, &error)),
            }
        })
    }
}

/// The client, where it may be asked.
fn reachable<'a, T>(client: &'a Option<T>, call: &Call<'_>) -> Result<&'a T, ApiError> {
    client.as_ref().ok_or_else(|| {
        problem(call, "not asked: EC2 and EBS are on loopback, and this service is not".to_owned(), None)
    })
}

fn tags(tags: Option<Vec<ResourceTag>>) -> Vec<(String, Option<String>)> {
    let tags = tags.unwrap_or_default().into_iter();
    tags.map(|tag| (tag.resource_tag_key, tag.resource_tag_value)).collect()
}

fn failed<E>(call: &Call<'_>, error: &SdkError<E, HttpResponse>) -> ApiError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    errors::translate(call, error, errors::no_reason)
}

fn lacks(call: &Call<'_>, what: &str, request_id: Option<String>) -> ApiError {
    problem(call, format!("the reply lacks {what}"), request_id)
}

fn problem(call: &Call<'_>, code: String, request_id: Option<String>) -> ApiError {
    ApiError {
        operation: call.operation,
        resource: call.resource.map(str::to_owned),
        kind: ErrorKind::Other,
        code,
        request_id,
    }
}
