//! The EC2 calls.

use std::collections::BTreeMap;
use std::error::Error;

use aws_sdk_ec2::config::http::HttpResponse;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ec2::operation::RequestId;
use aws_sdk_ec2::types::{InstanceSpecification, InstanceType};
use stillframe_cloud::api::{
    Answer, ApiError, Compute, CreateSet, DryRunAction, ErrorKind, Filter, Instance, Page, Replied, Snapshot,
    Tags, Volume,
};

use crate::connection::Connection;
use crate::errors::{self, Call};
use crate::translate::{self, Lacking};

/// The most that EC2 gives in one page of instances and of snapshots.
const ITEMS_A_PAGE: i32 = 1_000;
/// The most of volumes.
const VOLUMES_A_PAGE: i32 = 500;

impl Compute for Connection {
    fn describe_instances(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Instance>> {
        let filters = translate::filters(filters);
        Box::pin(async move {
            let call = Call { operation: "ec2:DescribeInstances", resource: None };
            let reply = self
                .ec2
                .describe_instances()
                .set_filters(filters)
                .set_next_token(page)
                .max_results(ITEMS_A_PAGE)
                .include_managed_resources(true)
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let next = reply.next_token.filter(|token| !token.is_empty());
            let instances = reply
                .reservations
                .unwrap_or_default()
                .into_iter()
                .flat_map(|reservation| reservation.instances.unwrap_or_default());
            let items = all(&call, request_id, instances.map(translate::instance))?;
            Ok(Page { items, next })
        })
    }

    fn describe_instances_by_id(&self, ids: &[String]) -> Answer<'_, Vec<Instance>> {
        let ids = ids.to_vec();
        Box::pin(async move {
            let Some(resource) = named(&ids) else { return Ok(Vec::new()) };
            let call = Call { operation: "ec2:DescribeInstances", resource: Some(&resource) };
            let reply = self
                .ec2
                .describe_instances()
                .set_instance_ids(Some(ids))
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let instances = reply
                .reservations
                .unwrap_or_default()
                .into_iter()
                .flat_map(|reservation| reservation.instances.unwrap_or_default());
            all(&call, request_id, instances.map(translate::instance))
        })
    }

    fn describe_volumes(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Volume>> {
        let filters = translate::filters(filters);
        Box::pin(async move {
            let call = Call { operation: "ec2:DescribeVolumes", resource: None };
            let reply = self
                .ec2
                .describe_volumes()
                .set_filters(filters)
                .set_next_token(page)
                .max_results(VOLUMES_A_PAGE)
                .include_managed_resources(true)
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let next = reply.next_token.filter(|token| !token.is_empty());
            let volumes = reply.volumes.unwrap_or_default().into_iter();
            Ok(Page { items: all(&call, request_id, volumes.map(translate::volume))?, next })
        })
    }

    fn create_snapshots(&self, request: &CreateSet) -> Answer<'_, Replied<Vec<Snapshot>>> {
        let request = request.clone();
        Box::pin(async move {
            let call = Call { operation: "ec2:CreateSnapshots", resource: Some(&request.instance_id) };
            let specification = InstanceSpecification::builder()
                .instance_id(&request.instance_id)
                .exclude_boot_volume(request.exclude_boot_volume)
                .set_exclude_data_volume_ids(some_of(&request.exclude_data_volume_ids))
                .build();
            let reply = self
                .ec2
                .create_snapshots()
                .instance_specification(specification)
                .description(&request.description)
                .tag_specifications(translate::tag_specification(&request.tags))
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let infos = reply.snapshots.unwrap_or_default().into_iter();
            // Snapshots that nobody named exist all the same: the caller has to look for them by their tags.
            let value = all(&call, request_id.clone(), infos.map(translate::snapshot_info))
                .map_err(|error| ApiError { kind: ErrorKind::NoReply, ..error })?;
            Ok(Replied { value, request_id })
        })
    }

    fn create_snapshot(
        &self,
        volume_id: &str,
        description: &str,
        tags: &Tags,
    ) -> Answer<'_, Replied<Snapshot>> {
        let (volume_id, description) = (volume_id.to_owned(), description.to_owned());
        let tags = translate::tag_specification(tags);
        Box::pin(async move {
            let call = Call { operation: "ec2:CreateSnapshot", resource: Some(&volume_id) };
            let reply = self
                .ec2
                .create_snapshot()
                .volume_id(&volume_id)
                .description(description)
                .tag_specifications(tags)
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let value = translate::created(reply).map_err(|lacking| ApiError {
                kind: ErrorKind::NoReply,
                ..incomplete(&call, request_id.clone(), &lacking)
            })?;
            Ok(Replied { value, request_id })
        })
    }

    fn describe_snapshots(&self, filters: &[Filter], page: Option<String>) -> Answer<'_, Page<Snapshot>> {
        let filters = translate::filters(filters);
        Box::pin(async move {
            let call = Call { operation: "ec2:DescribeSnapshots", resource: None };
            let reply = self
                .ec2
                .describe_snapshots()
                .owner_ids("self")
                .set_filters(filters)
                .set_next_token(page)
                .max_results(ITEMS_A_PAGE)
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            let next = reply.next_token.filter(|token| !token.is_empty());
            let snapshots = reply.snapshots.unwrap_or_default().into_iter();
            Ok(Page { items: all(&call, request_id, snapshots.map(translate::snapshot))?, next })
        })
    }

    fn describe_snapshots_by_id(&self, ids: &[String]) -> Answer<'_, Vec<Snapshot>> {
        let ids = ids.to_vec();
        Box::pin(async move {
            let Some(resource) = named(&ids) else { return Ok(Vec::new()) };
            let call = Call { operation: "ec2:DescribeSnapshots", resource: Some(&resource) };
            let reply = self
                .ec2
                .describe_snapshots()
                .set_snapshot_ids(Some(ids))
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let request_id = reply.request_id().and_then(errors::request_word);
            all(&call, request_id, reply.snapshots.unwrap_or_default().into_iter().map(translate::snapshot))
        })
    }

    fn delete_snapshot(&self, snapshot_id: &str) -> Answer<'_, Replied<()>> {
        let snapshot_id = snapshot_id.to_owned();
        Box::pin(async move {
            let call = Call { operation: "ec2:DeleteSnapshot", resource: Some(&snapshot_id) };
            let reply = self
                .ec2
                .delete_snapshot()
                .snapshot_id(&snapshot_id)
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            Ok(Replied { value: (), request_id: reply.request_id().and_then(errors::request_word) })
        })
    }

    fn snapshots_in_recycle_bin(&self, ids: &[String]) -> Answer<'_, Vec<String>> {
        let ids = ids.to_vec();
        Box::pin(async move {
            // No reference says whether an id that is not in the bin fails the call, as it does elsewhere, or is left out.
            match self.kept(&ids).await {
                Err(error) if error.kind == ErrorKind::NotFound => {}
                answer => return answer,
            }
            let mut all = Vec::new();
            for id in ids.iter().filter(|_| ids.len() > 1) {
                match self.kept(std::slice::from_ref(id)).await {
                    Ok(kept) => all.extend(kept),
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(all)
        })
    }

    fn dry_run(&self, action: DryRunAction) -> Answer<'_, ()> {
        Box::pin(self.try_dry(action))
    }

    fn describe_regions(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let call = Call { operation: "ec2:DescribeRegions", resource: None };
            let reply = self.ec2.describe_regions().send().await.map_err(|error| failed(&call, &error))?;
            let regions = reply.regions.unwrap_or_default();
            Ok(regions.into_iter().filter_map(|region| region.region_name).collect())
        })
    }

    fn instance_store_gib(&self, types: &[String]) -> Answer<'_, BTreeMap<String, u64>> {
        let types = types.to_vec();
        Box::pin(async move {
            let Some(resource) = named(&types) else { return Ok(BTreeMap::new()) };
            let call = Call { operation: "ec2:DescribeInstanceTypes", resource: Some(&resource) };
            let types = types.iter().map(|name| InstanceType::from(name.as_str())).collect();
            let reply = self
                .ec2
                .describe_instance_types()
                .set_instance_types(Some(types))
                .send()
                .await
                .map_err(|error| failed(&call, &error))?;
            let stores = reply.instance_types.unwrap_or_default().into_iter().filter_map(|described| {
                let gib = described.instance_storage_info?.total_size_in_gb?;
                Some((described.instance_type?.as_str().to_owned(), u64::try_from(gib).ok()?))
            });
            Ok(stores.collect())
        })
    }
}

impl Connection {
    /// Those of these snapshots that are in the Recycle Bin.
    async fn kept(&self, ids: &[String]) -> Result<Vec<String>, ApiError> {
        let Some(resource) = named(ids) else { return Ok(Vec::new()) };
        let call = Call { operation: "ec2:ListSnapshotsInRecycleBin", resource: Some(&resource) };
        let reply = self
            .ec2
            .list_snapshots_in_recycle_bin()
            .set_snapshot_ids(Some(ids.to_vec()))
            .send()
            .await
            .map_err(|error| failed(&call, &error))?;
        let kept = reply.snapshots.unwrap_or_default();
        Ok(kept.into_iter().filter_map(|snapshot| snapshot.snapshot_id).collect())
    }

    async fn try_dry(&self, action: DryRunAction) -> Result<(), ApiError> {
        match action {
            DryRunAction::DescribeInstances => {
                let call = Call { operation: "ec2:DescribeInstances", resource: None };
                verdict(&call, &self.ec2.describe_instances().max_results(5).dry_run(true).send().await)
            }
            DryRunAction::DescribeVolumes => {
                let call = Call { operation: "ec2:DescribeVolumes", resource: None };
                verdict(&call, &self.ec2.describe_volumes().max_results(5).dry_run(true).send().await)
            }
            DryRunAction::DescribeSnapshots => {
                let call = Call { operation: "ec2:DescribeSnapshots", resource: None };
                let request = self.ec2.describe_snapshots().owner_ids("self").max_results(5).dry_run(true);
                verdict(&call, &request.send().await)
            }
            DryRunAction::CreateSnapshots { instance_id, tags } => {
                let call = Call { operation: "ec2:CreateSnapshots", resource: Some(&instance_id) };
                let specification = InstanceSpecification::builder().instance_id(&instance_id).build();
                let request = self
                    .ec2
                    .create_snapshots()
                    .instance_specification(specification)
                    .tag_specifications(translate::tag_specification(&tags))
                    .dry_run(true);
                verdict(&call, &request.send().await)
            }
            DryRunAction::CreateSnapshot { volume_id, tags } => {
                let call = Call { operation: "ec2:CreateSnapshot", resource: Some(&volume_id) };
                let request = self
                    .ec2
                    .create_snapshot()
                    .volume_id(&volume_id)
                    .tag_specifications(translate::tag_specification(&tags))
                    .dry_run(true);
                verdict(&call, &request.send().await)
            }
            DryRunAction::DeleteSnapshot { snapshot_id } => {
                let call = Call { operation: "ec2:DeleteSnapshot", resource: Some(&snapshot_id) };
                let request = self.ec2.delete_snapshot().snapshot_id(&snapshot_id).dry_run(true);
                verdict(&call, &request.send().await)
            }
        }
    }
}

/// A dry run that would succeed fails, with a code that says so.
fn verdict<T, E>(call: &Call<'_>, result: &Result<T, SdkError<E, HttpResponse>>) -> Result<(), ApiError>
where
    T: RequestId,
    E: ProvideErrorMetadata + Error + 'static,
{
    match result {
        Err(SdkError::ServiceError(refused)) if refused.err().code() == Some("DryRunOperation") => Ok(()),
        Err(error) => Err(failed(call, error)),
        // Whoever answers here does not know dry runs, and may have done what was only asked about.
        Ok(reply) => Err(ApiError {
            operation: call.operation,
            resource: call.resource.map(str::to_owned),
            kind: ErrorKind::Other,
            code: "the dry run was not taken as one".to_owned(),
            request_id: reply.request_id().and_then(errors::request_word),
        }),
    }
}

fn failed<E>(call: &Call<'_>, error: &SdkError<E, HttpResponse>) -> ApiError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    errors::translate(call, error, errors::no_reason)
}

/// All of a list, or the reason why one of it is no answer.
fn all<T>(
    call: &Call<'_>,
    request_id: Option<String>,
    items: impl Iterator<Item = Result<T, Lacking>>,
) -> Result<Vec<T>, ApiError> {
    items.collect::<Result<_, _>>().map_err(|lacking| incomplete(call, request_id, &lacking))
}

fn incomplete(call: &Call<'_>, request_id: Option<String>, lacking: &Lacking) -> ApiError {
    ApiError {
        operation: call.operation,
        resource: call.resource.map(str::to_owned),
        kind: ErrorKind::Other,
        code: format!("the reply lacks {}", lacking.0),
        request_id,
    }
}

/// What a call about several things is about; `None` where there are none: without ids EC2 would take all there are.
fn named(ids: &[String]) -> Option<String> {
    match ids {
        [] => None,
        [only] => Some(only.clone()),
        [first, rest @ ..] => Some(format!("{first} and {} more", rest.len())),
    }
}

/// An empty list is left out: EC2 would read it as a list of one empty name.
fn some_of(ids: &[String]) -> Option<Vec<String>> {
    (!ids.is_empty()).then(|| ids.to_vec())
}
