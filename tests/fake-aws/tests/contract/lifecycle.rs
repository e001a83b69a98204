//! States, quotas, paging and tokens in virtual time, without sockets.

use std::sync::Arc;
use std::time::Duration;

use fake_aws::{
    Account, Content, Device, Estate, FakeBody, Fault, Instance, Role, Rule, Snapshot, TokioClock, Volume,
    World,
};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::Value;

const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=KEY/20260101/us-east-1/any/aws4_request, Signature=0";
const OUR_TAGS: &str = "TagSpecification.1.ResourceType=snapshot\
    &TagSpecification.1.Tag.1.Key=CreatedBy&TagSpecification.1.Tag.1.Value=Microsoft+Defender+for+Cloud\
    &TagSpecification.1.Tag.2.Key=stillframe%3Ascan-id&TagSpecification.1.Tag.2.Value=1";

/// What came: the status, 0 for a broken connection, and the body.
pub(crate) type Answer = (u16, String);

pub(crate) async fn send(world: &World, request: http::request::Builder, body: String, key: &str) -> Answer {
    let request =
        request.header("authorization", SIGNATURE.replace("KEY", key)).body(Bytes::from(body)).unwrap();
    let Ok(response) = world.answer(request).await else { return (0, String::new()) };
    let status = response.status().as_u16();
    match response.into_body().collect().await {
        Ok(body) => (status, String::from_utf8_lossy(&body.to_bytes()).into_owned()),
        Err(_broken) => (0, String::new()),
    }
}

pub(crate) async fn ec2_as(world: &World, key: &str, action: &str, form: &str) -> Answer {
    send(world, Request::post("/"), format!("Version=2016-11-15&Action={action}&{form}"), key).await
}

pub(crate) async fn ec2(world: &World, action: &str, form: &str) -> Answer {
    ec2_as(world, "AKIAONE", action, form).await
}

pub(crate) async fn ebs(world: &World, path: &str) -> Answer {
    send(world, Request::get(format!("/snapshots/{path}")), String::new(), "AKIAONE").await
}

async fn list(world: &World, path: &str) -> Value {
    let (status, body) = ebs(world, path).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// The text of the first element of a name.
pub(crate) fn element<'a>(body: &'a str, name: &str) -> &'a str {
    let after = body.split(&format!("<{name}>")).nth(1).unwrap_or_else(|| panic!("no {name} in {body}"));
    after.split('<').next().unwrap()
}

pub(crate) fn code((status, body): &Answer) -> String {
    if *status == 200 { "ok".to_owned() } else { element(body, "Code").to_owned() }
}

async fn create(world: &World, volume: &str) -> Answer {
    ec2(world, "CreateSnapshot", &format!("VolumeId={volume}&{OUR_TAGS}")).await
}

pub(crate) async fn created(world: &World, volume: &str) -> String {
    let answer = create(world, volume).await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    element(&answer.1, "snapshotId").to_owned()
}

pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

pub(crate) fn volume_id(number: usize) -> String {
    format!("vol-{number:017x}")
}

/// `count` volumes of which the first `blocks` blocks are written; a snapshot takes a minute.
pub(crate) fn world_of(count: usize, blocks: u32) -> World {
    let mut estate = Estate::default();
    for number in 0..count {
        let content = Content { image: None, pattern_blocks: blocks };
        estate.volumes.push(Volume { id: volume_id(number), content, ..Volume::default() });
    }
    estate.settings.snapshot_delay_ms = 60_000;
    World::of(Arc::new(TokioClock::new()), estate)
}

#[tokio::test(start_paused = true)]
async fn a_pending_snapshot_that_is_deleted_goes_when_it_completes() {
    let world = world_of(1, 1);
    let id = created(&world, &volume_id(0)).await;
    assert_eq!(world.leaks(), std::slice::from_ref(&id));
    let state = async |form: &str| {
        let (status, body) = ec2(&world, "DescribeSnapshots", form).await;
        if status == 200 && body.contains("<status>") { element(&body, "status").to_owned() } else { body }
    };
    let by_id = format!("SnapshotId.1={id}");
    assert_eq!(state(&by_id).await, "pending");
    assert_eq!(code(&ec2(&world, "DeleteSnapshot", &format!("SnapshotId={id}")).await), "ok");
    assert!(world.leaks().is_empty());
    assert_eq!(state(&by_id).await, "pending", "it is still there, and still counts");
    pass(61).await;
    assert_eq!(element(&state(&by_id).await, "Code"), "InvalidSnapshot.NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_completes_and_can_be_read() {
    let world = world_of(1, 2);
    let id = created(&world, &volume_id(0)).await;
    let (status, body) = ebs(&world, &format!("{id}/blocks")).await;
    assert!(status == 400 && body.contains("INVALID_SNAPSHOT_ID"), "{body}");
    pass(61).await;
    let (_, body) = ec2(&world, "DescribeSnapshots", "Owner.1=self").await;
    assert_eq!(
        (element(&body, "status"), element(&body, "fullSnapshotSizeInBytes")),
        ("completed", "1048576")
    );
    let listed = list(&world, &format!("{id}/blocks")).await;
    assert_eq!(listed["Blocks"].as_array().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_volume_waits_15_seconds_between_two_snapshots() {
    let world = world_of(2, 1);
    let first = created(&world, &volume_id(0)).await;
    assert_eq!(code(&create(&world, &volume_id(0)).await), "SnapshotCreationPerVolumeRateExceeded");
    assert_eq!(code(&create(&world, &volume_id(1)).await), "ok", "another volume does not wait");
    pass(14).await;
    let deleted = ec2(&world, "DeleteSnapshot", &format!("SnapshotId={first}")).await;
    assert_eq!(code(&deleted), "ok");
    let again = create(&world, &volume_id(0)).await;
    assert_eq!(code(&again), "SnapshotCreationPerVolumeRateExceeded", "deletion does not shorten it");
    pass(2).await;
    assert_eq!(code(&create(&world, &volume_id(0)).await), "ok");
    assert_eq!(world.counters().refusals["SnapshotCreationPerVolumeRateExceeded"], 2);
}

#[tokio::test(start_paused = true)]
async fn so_many_snapshots_may_be_pending() {
    let world = world_of(101, 1);
    for number in 0..100 {
        assert_eq!(code(&create(&world, &volume_id(number)).await), "ok", "{number}");
    }
    pass(1).await;
    assert_eq!(code(&create(&world, &volume_id(100)).await), "PendingSnapshotLimitExceeded");
    assert_eq!(world.counters().max_pending, 100);
    pass(60).await;
    assert_eq!(code(&create(&world, &volume_id(100)).await), "ok");
}

#[tokio::test(start_paused = true)]
async fn so_many_snapshots_of_a_volume_may_be_pending() {
    let world = world_of(2, 1);
    world.change(|estate| {
        estate.settings.snapshot_delay_ms = 3_600_000;
        estate.volumes[1].volume_type = "st1".to_owned();
    });
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push([code(&create(&world, &volume_id(0)).await), code(&create(&world, &volume_id(1)).await)]);
        pass(16).await;
    }
    let refused = "ConcurrentSnapshotLimitExceeded";
    assert_eq!(codes[0], ["ok", "ok"]);
    assert_eq!(codes[1], ["ok", refused]);
    assert_eq!(codes[4], ["ok", refused]);
    assert_eq!(codes[5], [refused, refused]);
}

#[tokio::test(start_paused = true)]
async fn calls_above_the_rate_are_throttled() {
    let world = world_of(1, 1);
    let id = created(&world, &volume_id(0)).await;
    pass(61).await;
    let listed = list(&world, &format!("{id}/blocks")).await;
    let token = listed["Blocks"][0]["BlockToken"].as_str().unwrap().replace('+', "%2B");
    let block = format!("{id}/blocks/0?blockToken={token}");
    for _ in 0..1_000 {
        assert_eq!(ebs(&world, &block).await.0, 200);
    }
    let (status, body) = ebs(&world, &block).await;
    assert!(status == 400 && body.contains("ACCOUNT_THROTTLED"), "{body}");
    let (status, _) = ebs(&world, &format!("{id}/blocks")).await;
    assert_eq!(status, 200, "lists have a quota of their own");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut served = 0;
    while ebs(&world, &block).await.0 == 200 {
        served += 1;
    }
    assert!((99..=102).contains(&served), "a tenth of a second is worth 100 calls, not {served}");
    pass(10).await;
    let mut listed = 0;
    while ebs(&world, &format!("{id}/blocks")).await.0 == 200 {
        listed += 1;
    }
    assert_eq!(listed, 50);
    assert_eq!(world.counters().throttles, 3);
    // EC2 counts each action.
    let described = "Filter.1.Name=status&Filter.1.Value.1=completed";
    for _ in 0..100 {
        assert_eq!(code(&ec2(&world, "DescribeSnapshots", described).await), "ok");
    }
    assert_eq!(code(&ec2(&world, "DescribeSnapshots", described).await), "RequestLimitExceeded");
    assert_eq!(code(&ec2(&world, "DescribeVolumes", described).await), "ok");
}

#[tokio::test(start_paused = true)]
async fn the_quota_of_a_snapshot_stays_where_that_of_the_account_is_raised() {
    let world = world_of(2, 1);
    world.change(|estate| estate.settings.quotas.gets_per_second = 5_000.0);
    let mut served = Vec::new();
    for number in 0..2 {
        let id = created(&world, &volume_id(number)).await;
        pass(61).await;
        let listed = list(&world, &format!("{id}/blocks")).await;
        let token = listed["Blocks"][0]["BlockToken"].as_str().unwrap().replace('+', "%2B");
        served.push((format!("{id}/blocks/0?blockToken={token}"), 0));
    }
    for (block, count) in &mut served {
        while ebs(&world, block).await.0 == 200 {
            *count += 1;
        }
        assert_eq!(*count, 1_000);
    }
    assert!(ebs(&world, &served[0].0).await.1.contains("RESOURCE_LEVEL_THROTTLE"));
}

#[tokio::test(start_paused = true)]
async fn tokens_expire() {
    let world = world_of(1, 200);
    let id = created(&world, &volume_id(0)).await;
    pass(61).await;
    let listed = list(&world, &format!("{id}/blocks")).await;
    let token = |value: &Value| value.as_str().unwrap().replace('+', "%2B");
    let page = format!("{id}/blocks?pageToken={}", token(&listed["NextToken"]));
    let block = format!("{id}/blocks/7?blockToken={}", token(&listed["Blocks"][7]["BlockToken"]));
    pass(3_500).await;
    assert_eq!(list(&world, &page).await["Blocks"][0]["BlockIndex"], 100);
    pass(200).await;
    let (status, body) = ebs(&world, &page).await;
    assert!(status == 400 && body.contains("INVALID_PAGE_TOKEN"), "{body}");
    assert_eq!(ebs(&world, &block).await.0, 200);
    pass(7 * 24 * 3_600 - 3_600).await;
    let (status, body) = ebs(&world, &block).await;
    assert!(status == 400 && body.contains("INVALID_BLOCK_TOKEN"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn short_and_empty_pages_lose_nothing() {
    let world = world_of(1, 500);
    world.change(|estate| estate.settings.block_page_limit = Some(37));
    world.add_fault(Rule { every: Some(3), ..Rule::always("ListSnapshotBlocks", Fault::EmptyPage) });
    let id = created(&world, &volume_id(0)).await;
    pass(61).await;
    let (mut indexes, mut pages, mut empty) = (Vec::new(), 0, 0);
    let mut next = String::new();
    loop {
        let page = list(&world, &format!("{id}/blocks?maxResults=10000&startingBlockIndex=9{next}")).await;
        let blocks = page["Blocks"].as_array().unwrap();
        indexes.extend(blocks.iter().map(|block| block["BlockIndex"].as_u64().unwrap()));
        pages += 1;
        empty += usize::from(blocks.is_empty());
        match page["NextToken"].as_str() {
            Some(token) => next = format!("&pageToken={}", token.replace('+', "%2B")),
            None => break,
        }
    }
    assert_eq!(indexes, (9..500).collect::<Vec<_>>());
    // 491 blocks are 14 pages of 37, and every third answer was empty.
    assert_eq!((pages, empty), (20, 6));
}

#[tokio::test(start_paused = true)]
async fn a_new_snapshot_may_be_found_late() {
    let world = world_of(1, 1);
    world.add_fault(Rule::nth("CreateSnapshot", 1, Fault::NotFoundAfterCreate { seconds: 90 }));
    let id = created(&world, &volume_id(0)).await;
    pass(80).await;
    let by_id = format!("SnapshotId.1={id}");
    assert_eq!(code(&ec2(&world, "DescribeSnapshots", &by_id).await), "InvalidSnapshot.NotFound");
    assert!(!ec2(&world, "DescribeSnapshots", "Owner.1=self").await.1.contains(&id));
    let gone = ec2(&world, "DeleteSnapshot", &format!("SnapshotId={id}")).await;
    assert_eq!(code(&gone), "InvalidSnapshot.NotFound");
    assert_eq!(ebs(&world, &format!("{id}/blocks")).await.0, 404);
    assert_eq!(world.leaks(), std::slice::from_ref(&id), "it exists all the same");
    pass(11).await;
    assert_eq!(code(&ec2(&world, "DescribeSnapshots", &by_id).await), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_list_may_lack_what_is_there() {
    let world = world_of(2, 1);
    let ids = [created(&world, &volume_id(0)).await, created(&world, &volume_id(1)).await];
    world.add_fault(Rule::nth("DescribeSnapshots", 2, Fault::StaleList { rows: 0 }));
    world.add_fault(Rule::nth("DescribeSnapshots", 3, Fault::StaleList { rows: 1 }));
    for wanted in [2, 0, 1, 2] {
        let (status, body) = ec2(&world, "DescribeSnapshots", "Owner.1=self&MaxResults=1000").await;
        let listed = ids.iter().filter(|id| body.contains(id.as_str())).count();
        assert_eq!((status, listed, body.contains("nextToken>")), (200, wanted, false), "{body}");
    }
    assert_eq!(world.leaks().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_leaves_its_effect() {
    let world = world_of(1, 1);
    world.add_fault(Rule::nth("CreateSnapshot", 1, Fault::ReplyLost));
    world.add_fault(Rule::nth("DeleteSnapshot", 1, Fault::Reset));
    assert_eq!(create(&world, &volume_id(0)).await.0, 0);
    let leaks = world.leaks();
    assert_eq!(leaks.len(), 1);
    let form = format!("SnapshotId={}", leaks[0]);
    assert_eq!(ec2(&world, "DeleteSnapshot", &form).await.0, 0);
    assert_eq!(world.leaks(), leaks, "a reset comes before the effect");
    assert_eq!(code(&ec2(&world, "DeleteSnapshot", &form).await), "ok");
    let events = world.events();
    let seen: Vec<_> = events.iter().map(|event| (event.effect.as_str(), event.status)).collect();
    assert_eq!(seen, [("ok", 0), ("reset", 0), ("ok", 200)]);
    assert_eq!(events[0].faults, ["reply-lost"]);
    assert_eq!(events[0].resources, [volume_id(0), leaks[0].clone()]);
}

#[tokio::test(start_paused = true)]
async fn one_failure_fails_the_set() {
    let world = world_of(3, 1);
    let device =
        |number: usize| Device { name: format!("/dev/xvd{number}"), volume: Some(volume_id(number)) };
    world.change(|estate| {
        estate.volumes[2].snapshot_error = Some("broken".to_owned());
        let id = "i-00000000000000001".to_owned();
        estate.instances.push(Instance { id, devices: (0..3).map(device).collect(), ..Instance::default() });
    });
    let set = format!("InstanceSpecification.InstanceId=i-00000000000000001&{OUR_TAGS}");
    let (status, _) = ec2(&world, "CreateSnapshots", &set).await;
    assert_eq!(status, 200);
    pass(61).await;
    let (_, body) = ec2(&world, "DescribeSnapshots", "Filter.1.Name=status&Filter.1.Value.1=error").await;
    assert_eq!(body.matches("<snapshotId>").count(), 3, "{body}");
    assert_eq!(element(&body, "statusMessage"), "broken");
    created(&world, &volume_id(0)).await;
    let without = format!("{set}&InstanceSpecification.ExcludeDataVolumeId.1={}", volume_id(2));
    pass(15).await;
    let (_, body) = ec2(&world, "CreateSnapshots", &without).await;
    assert_eq!(body.matches("<snapshotId>").count(), 2, "{body}");
    world.change(|estate| estate.instances[0].state = "terminated".to_owned());
    assert_eq!(code(&ec2(&world, "CreateSnapshots", &set).await), "IncorrectState");
}

#[tokio::test(start_paused = true)]
async fn the_recycle_bin_keeps_what_no_tag_excludes() {
    let world = world_of(2, 1);
    world.change(|estate| estate.accounts[0].recycle_bin_days = Some(1));
    let first = created(&world, &volume_id(0)).await;
    pass(61).await;
    let delete = async |id: &str| code(&ec2(&world, "DeleteSnapshot", &format!("SnapshotId={id}")).await);
    assert_eq!(delete(&first).await, "ok");
    assert!(world.leaks().is_empty());
    assert_eq!(world.in_recycle_bin(), std::slice::from_ref(&first));
    let exclusion = ("CreatedBy".to_owned(), "Microsoft Defender for Cloud".to_owned());
    world.change(|estate| estate.accounts[0].recycle_bin_exclusion = Some(exclusion));
    let second = created(&world, &volume_id(1)).await;
    pass(61).await;
    assert_eq!(delete(&second).await, "ok");
    assert_eq!(world.in_recycle_bin(), [first]);
    pass(24 * 3_600).await;
    assert!(world.in_recycle_bin().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_session_acts_in_its_account_for_its_time() {
    let world = world_of(1, 1);
    world.change(|estate| {
        let role = Role { name: "scanner".to_owned(), ..Role::default() };
        let id = "222222222222".to_owned();
        estate.accounts.push(Account { id: id.clone(), roles: vec![role], ..Account::default() });
        estate.snapshots.push(Snapshot { id: "snap-1".to_owned(), account: id, ..Snapshot::default() });
    });
    let assume = "Version=2011-06-15&Action=AssumeRole&RoleArn=arn:aws:iam::222222222222:role/scanner\
        &RoleSessionName=s&DurationSeconds=900";
    let (_, body) = send(&world, Request::post("/"), assume.to_owned(), "AKIAONE").await;
    let key = element(&body, "AccessKeyId").to_owned();
    let by_id = "SnapshotId.1=snap-1";
    assert_eq!(code(&ec2(&world, "DescribeSnapshots", by_id).await), "InvalidSnapshot.NotFound");
    assert_eq!(code(&ec2_as(&world, &key, "DescribeSnapshots", by_id).await), "ok");
    assert_eq!(world.events().last().unwrap().account, "222222222222");
    world.change(|estate| estate.snapshots[0].shared_with.push("111111111111".to_owned()));
    assert_eq!(code(&ec2(&world, "DescribeSnapshots", by_id).await), "ok", "shared");
    world
        .change(|estate| estate.accounts[1].roles[0].denied_actions.push("ec2:DescribeSnapshots".to_owned()));
    let denied = ec2_as(&world, &key, "DescribeSnapshots", by_id).await;
    assert_eq!((code(&denied), denied.0), ("UnauthorizedOperation".to_owned(), 403));
    pass(901).await;
    assert_eq!(code(&ec2_as(&world, &key, "DescribeRegions", "").await), "RequestExpired");
}

/// A connector of the SDK takes such bodies only.
const fn is_shareable<T: Send + Sync + 'static>() {}
const _: () = is_shareable::<FakeBody>();
const _: () = is_shareable::<World>();

#[tokio::test(start_paused = true)]
async fn latencies_of_concurrent_calls_overlap() {
    let world = world_of(1, 1);
    world.change(|estate| estate.settings.latency_ms = 100);
    let begun = tokio::time::Instant::now();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { ec2(&world, "DescribeRegions", "RegionName.1=us-east-1").await.0 })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    let passed = begun.elapsed();
    assert!((100..110).contains(&passed.as_millis()), "{passed:?}");
    let counters = world.counters();
    assert_eq!((counters.max_in_flight, counters.in_flight), (50, 0));
}
