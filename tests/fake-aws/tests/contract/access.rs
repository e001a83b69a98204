//! What a policy lets a caller do: each call is checked against all that it takes and makes.

use fake_aws::{Estate, Policy, Role, Snapshot, Volume, World};
use http::Request;
use serde_json::{Value, json};

use crate::lifecycle::{code, created, ebs, ec2, ec2_as, element, pass, send, volume_id, world_of};

const SNAPSHOTS: &str = "arn:aws:ec2:*::snapshot/*";
const TAGS: &str = "TagSpecification.1.ResourceType=snapshot&TagSpecification.1.Tag.1.Key=team\
                    &TagSpecification.1.Tag.1.Value=blue";

fn policy(statements: &Value) -> Policy {
    json!({"Version": "2012-10-17", "Statement": statements}).try_into().unwrap()
}

fn allow(world: &World, statements: &Value) {
    world.change(|estate| estate.accounts[0].policy = Some(policy(statements)));
}

/// The access key of the session, or the code of the refusal.
async fn assume(world: &World, role: &str) -> Result<String, String> {
    let form = format!("Version=2011-06-15&Action=AssumeRole&RoleArn={role}&RoleSessionName=s");
    let answer = send(world, Request::post("/"), form, "AKIAONE").await;
    match code(&answer).as_str() {
        "ok" => Ok(element(&answer.1, "AccessKeyId").to_owned()),
        code => Err(code.to_owned()),
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_a_policy_may_do_no_more_than_it_allows() {
    let world = world_of(1, 1);
    let regions = || ec2(&world, "DescribeRegions", "");
    assert_eq!(code(&regions().await), "ok", "there is no policy");
    allow(&world, &json!([{"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"}]));
    let denied = regions().await;
    assert_eq!((code(&denied).as_str(), denied.0), ("UnauthorizedOperation", 403));
    assert!(
        denied.1.contains("is not authorized to perform: ec2:DescribeRegions on resource: *"),
        "{}",
        denied.1
    );
    assert_eq!(code(&ec2(&world, "DescribeVolumes", "").await), "ok");
    assert_eq!(code(&ec2(&world, "DescribeVolumes", "DryRun=true").await), "DryRunOperation");
    // A list of no resources is not allowed by an ARN.
    allow(&world, &json!([{"Effect": "Allow", "Action": "ec2:*", "Resource": "arn:aws:ec2:*:*:volume/*"}]));
    assert_eq!(code(&ec2(&world, "DescribeVolumes", "").await), "UnauthorizedOperation");
    world.change(|estate| estate.settings.enforce_policy = false);
    assert_eq!(code(&regions().await), "ok");
}

#[tokio::test(start_paused = true)]
async fn to_create_is_allowed_of_the_volume_and_of_the_snapshot_and_of_its_tags() {
    let world = world_of(1, 1);
    let call = format!("VolumeId={}&{TAGS}&DryRun=true", volume_id(0));
    let of_volume =
        json!({"Effect": "Allow", "Action": "ec2:CreateSnapshot", "Resource": "arn:aws:ec2:*:*:volume/*"});
    let of_snapshot = json!({"Effect": "Allow", "Action": "ec2:CreateSnapshot", "Resource": SNAPSHOTS,
        "Condition": {"StringEquals": {"aws:RequestTag/team": "blue"}}});
    let tagging = |action: &str| {
        json!({"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": SNAPSHOTS,
            "Condition": {"StringEquals": {"ec2:CreateAction": action}}})
    };
    for (statements, want, missing) in [
        (
            json!([of_volume]),
            "UnauthorizedOperation",
            "ec2:CreateSnapshot on resource: arn:aws:ec2:us-east-1::snapshot/",
        ),
        (
            json!([of_snapshot, tagging("CreateSnapshot")]),
            "UnauthorizedOperation",
            "ec2:CreateSnapshot on resource: arn:aws:ec2:us-east-1:111111111111:volume/",
        ),
        (json!([of_volume, of_snapshot]), "UnauthorizedOperation", "ec2:CreateTags"),
        (json!([of_volume, of_snapshot, tagging("RunInstances")]), "UnauthorizedOperation", "ec2:CreateTags"),
        (json!([of_volume, of_snapshot, tagging("CreateSnapshot")]), "DryRunOperation", ""),
    ] {
        allow(&world, &statements);
        let answer = ec2(&world, "CreateSnapshot", &call).await;
        assert_eq!(code(&answer), want, "{statements}");
        assert!(answer.1.contains(missing), "{missing}: {}", answer.1);
    }
    let other = call.replace("blue", "red");
    assert_eq!(code(&ec2(&world, "CreateSnapshot", &other).await), "UnauthorizedOperation");
    let untagged = format!("VolumeId={}&DryRun=true", volume_id(0));
    assert_eq!(code(&ec2(&world, "CreateSnapshot", &untagged).await), "UnauthorizedOperation");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_used_through_ec2_in_the_snapshots_region() {
    let world = world_of(1, 1);
    let key = "arn:aws:kms:us-east-1:111111111111:key/1".to_owned();
    world.change(|estate| estate.volumes[0].kms_key_id = Some(key));
    let id = created(&world, &volume_id(0)).await;
    pass(61).await;
    let listed = ebs(&world, &format!("{id}/blocks")).await;
    let listed: Value = serde_json::from_str(&listed.1).unwrap();
    let block = format!("{id}/blocks/0?blockToken={}", listed["Blocks"][0]["BlockToken"].as_str().unwrap());
    let read = json!({"Effect": "Allow", "Action": "ebs:*", "Resource": SNAPSHOTS});
    let decrypt = |via: &str| {
        json!({"Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
            "Condition": {"StringLike": {"kms:ViaService": via}}})
    };
    for (statements, want) in [
        (json!([read]), Some("DEPENDENCY_ACCESS_DENIED")),
        (json!([read, decrypt("ec2.*.amazonaws.com.cn")]), Some("DEPENDENCY_ACCESS_DENIED")),
        (json!([read, decrypt("ec2.*.amazonaws.com")]), None),
    ] {
        allow(&world, &statements);
        let (status, body) = ebs(&world, &block).await;
        assert_eq!(status, if want.is_some() { 403 } else { 200 }, "{statements}");
        assert!(body.contains(want.unwrap_or_default()), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_partition_has_other_arns() {
    let world = world_of(0, 0);
    world.change(|estate| {
        estate.regions = vec!["us-east-1".to_owned(), "cn-north-1".to_owned()];
        let chinese =
            Snapshot { id: "snap-1".to_owned(), region: "cn-north-1".to_owned(), ..Snapshot::default() };
        estate.snapshots.push(chinese);
    });
    // The key and what comes behind it in a signature: the day and the region.
    let delete =
        || ec2_as(&world, "AKIAONE/20260101/cn-north-1", "DeleteSnapshot", "SnapshotId=snap-1&DryRun=true");
    for (resource, want) in
        [(SNAPSHOTS, "UnauthorizedOperation"), ("arn:aws-cn:ec2:*::snapshot/*", "DryRunOperation")]
    {
        allow(&world, &json!([{"Effect": "Allow", "Action": "ec2:DeleteSnapshot", "Resource": resource}]));
        assert_eq!(code(&delete().await), want);
    }
}

#[tokio::test(start_paused = true)]
async fn a_role_has_a_policy_of_its_own_and_assuming_it_is_an_action() {
    let mut estate = Estate::default();
    let describe = policy(&json!([{"Effect": "Allow", "Action": "ec2:DescribeVolumes", "Resource": "*"}]));
    estate.accounts[0].roles.push(Role { name: "one".to_owned(), policy: Some(describe), ..Role::default() });
    estate.volumes.push(Volume { id: volume_id(0), ..Volume::default() });
    let world = World::of(std::sync::Arc::new(fake_aws::TokioClock::new()), estate);
    let role = "arn:aws:iam::111111111111:role/one";
    allow(&world, &json!([{"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}]));
    assert_eq!(assume(&world, role).await.unwrap_err(), "AccessDenied");
    allow(&world, &json!([{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": role}]));
    let key = assume(&world, role).await.unwrap();
    assert_eq!(code(&ec2_as(&world, &key, "DescribeVolumes", "").await), "ok");
    assert_eq!(code(&ec2_as(&world, &key, "DescribeRegions", "").await), "UnauthorizedOperation");
}

/// "EBS direct APIs does not support public snapshots": the reference makes no exception for the owner.
#[tokio::test(start_paused = true)]
async fn a_public_snapshot_is_read_by_nobody() {
    let world = world_of(1, 1);
    let id = created(&world, &volume_id(0)).await;
    pass(61).await;
    let path = format!("{id}/blocks");
    assert_eq!(ebs(&world, &path).await.0, 200);
    world.change(|estate| estate.snapshots[0].public = true);
    assert_eq!(ebs(&world, &path).await.0, 403);
}
