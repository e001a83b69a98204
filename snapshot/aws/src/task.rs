//! Where a container of ECS runs, as its task's metadata say: "Amazon ECS task metadata endpoint version 4".
//!
//! The address comes from the environment that the agent makes. It is asked only where it is on this machine or its link,
//! as the agent's is: anybody further away would be no witness of where we are.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::locality::is_region_name;

const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// As for a machine's own metadata: they are near, or not there at all.
const STEP_TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(3);
/// A task has ten containers at most, each of some kilobytes.
const LONGEST: usize = 1 << 20;

/// The region that this container's task runs in, where there is a task and it tells.
pub(crate) async fn region() -> Option<String> {
    let (address, path) = place(&std::env::var(VARIABLE).ok()?)?;
    let answer = tokio::task::spawn_blocking(move || ask(address, &path)).await.ok()??;
    region_of(&answer)
}

/// The socket and the path of `http://ADDRESS[:PORT]/PATH`, where it may be asked.
fn place(url: &str) -> Option<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic()))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = authority
        .parse::<SocketAddr>()
        .or_else(|_| {
            let host =
                authority.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(authority);
            host.parse::<IpAddr>().map(|address| SocketAddr::new(address, 80))
        })
        .ok()?;
    let folder = format!("/{}", path.trim_matches('/'));
    is_near(address.ip()).then(|| (address, format!("{}/task", folder.trim_end_matches('/'))))
}

fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        // Amazon's own services inside a network without IPv4.
        IpAddr::V6(address) => {
            let amazons = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0).segments();
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.segments().iter().take(2).eq(amazons.iter().take(2))
        }
    }
}

/// The body of the reply. Of HTTP 1.0, so that it comes in one piece and ends with the connection.
fn ask(address: SocketAddr, path: &str) -> Option<Vec<u8>> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, STEP_TIMEOUT).ok()?;
    stream.set_read_timeout(Some(STEP_TIMEOUT)).ok()?;
    stream.set_write_timeout(Some(STEP_TIMEOUT)).ok()?;
    // In one piece: whoever answers after the first piece and closes resets the connection at the second.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nAccept: application/json\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let (mut reply, mut part) = (Vec::new(), [0; 8_192]);
    loop {
        let len = stream.read(&mut part).ok()?;
        if len == 0 {
            break;
        }
        reply.extend_from_slice(part.get(..len)?);
        if reply.len() > LONGEST || begun.elapsed() > TIMEOUT {
            return None;
        }
    }
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n")?;
    let status = reply.split(|byte| *byte == b' ').nth(1)?;
    let body = reply.get(end.checked_add(4)?..)?;
    (status == b"200").then(|| body.to_vec())
}

/// The region in the task's name: `arn:aws:ecs:REGION:ACCOUNT:task/…`.
fn region_of(metadata: &[u8]) -> Option<String> {
    let task: Value = serde_json::from_slice(metadata).ok()?;
    let mut parts = task.get("TaskARN")?.as_str()?.splitn(6, ':');
    let (arn, _partition, service, region) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    (arn == "arn" && service == "ecs" && is_region_name(region)).then(|| region.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_near_is_asked() {
        let found = |url: &str| place(url).map(|(address, path)| format!("{address}{path}"));
        for (url, want) in [
            ("http://169.254.170.2/v4/0a1b-2c", "169.254.170.2:80/v4/0a1b-2c/task"),
            ("http://127.0.0.1:5001", "127.0.0.1:5001/task"),
            ("http://[fd00:ec2::23]/v4/x/", "[fd00:ec2::23]:80/v4/x/task"),
        ] {
            assert_eq!(found(url).as_deref(), Some(want));
        }
        for url in [
            "http://10.0.0.1/v4/x",
            "http://example.com/v4",
            "https://169.254.170.2/v4",
            "",
            "http://127.0.0.1/a\r\nb",
        ] {
            assert_eq!(found(url), None, "{url}");
        }
    }

    #[test]
    fn the_tasks_name_tells_its_region() {
        let of = |arn: &str| {
            region_of(format!(r#"{{"Cluster":"c","TaskARN":"{arn}","Containers":[]}}"#).as_bytes())
        };
        let arn = "arn:aws:ecs:eu-west-3:111122223333:task/default/0a1b";
        assert_eq!(of(arn).as_deref(), Some("eu-west-3"));
        assert_eq!(
            of(&arn.replace("aws:", "aws-cn:").replace("eu-west-3", "cn-north-1")).as_deref(),
            Some("cn-north-1")
        );
        for bad in ["", "arn:aws:ecs", "arn:aws:ec2:eu-west-3:1:task/x", "arn:aws:ecs::1:task/x"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(region_of(b"no JSON"), None);
        assert_eq!(region_of(b"{}"), None);
    }
}
