//! A Debian-like disk with a canary wherever a secret or a person may stand, and damaged copies of it whose errors are
//! about the places that hold canaries.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::disks::tool;
use crate::harness::Place;

/// The folder that the images are made from.
pub(super) const TREE: &str = "planted-tree";
pub(super) const IMAGE_ENDING: &str = ".planted";

pub(super) struct Planted {
    /// A good disk, then damaged ones.
    pub(super) images: Vec<PathBuf>,
    /// Content of files, targets of links, values of attributes.
    pub(super) content: Vec<String>,
    /// Names of people's folders.
    pub(super) people: Vec<String>,
}

/// Makes canaries that look random and are the same in every run.
struct Nest(Vec<String>);

impl Nest {
    fn next(&mut self) -> String {
        const LETTERS: &[u8; 32] = b"GHJKLMNPQRSTUVWXYZghjkmnpqrstvwx";
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(self.0.len() as u64 + 11);
        let canary: String = (0..22)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(LETTERS[usize::try_from(state >> 59).unwrap()])
            })
            .collect();
        self.0.push(canary.clone());
        canary
    }
}

pub(super) fn plant(place: &Place) -> Planted {
    let mut nest = Nest(Vec::new());
    let write = |path: &str, content: &[u8]| {
        let path = place.path(TREE).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    write_system(&mut nest, &write);
    write_databases(&mut nest, &write);
    write_secrets(&mut nest, &write);
    symlink(format!("/nowhere/{}", nest.next()), place.path(TREE).join("etc/short-link")).unwrap();
    symlink(format!("/nowhere/{}{}", "x/".repeat(60), nest.next()), place.path(TREE).join("etc/long-link"))
        .unwrap();
    let attribute = nest.next();
    let mut names = Nest((0..100).map(|_| String::new()).collect());
    let people = vec![names.next(), names.next()];
    for folder in [format!("home/{}/broken", people[0]), format!("var/spool/mail/{}/broken", people[1])] {
        fs::create_dir_all(place.path(TREE).join(folder)).unwrap();
    }
    let broken: Vec<String> =
        vec![format!("/home/{}/broken", people[0]), format!("/var/spool/mail/{}/broken", people[1])];
    let images = images(place, &attribute, &broken);
    Planted { images, content: nest.0, people }
}

fn write_system(nest: &mut Nest, write: &dyn Fn(&str, &[u8])) {
    let os_release = format!(
        "# {}\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n\
         HOME_URL=\"https://{}\"\nADMIN_PASSWORD='{}'\nnot a field {}\n",
        nest.next(),
        nest.next(),
        nest.next(),
        nest.next()
    );
    write("etc/os-release", os_release.as_bytes());
    write("etc/hostname", format!("planted-web01\n{}\n", nest.next()).as_bytes());
    // What stands where a name should, and is none.
    write("etc/sysconfig/network", format!("HOSTNAME=\"password {}\"\n", nest.next()).as_bytes());
    let fstab = format!(
        "# {}\n//server/share /mnt/share cifs username=x,password={} 0 0\nUUID={} none swap sw 0 0\n",
        nest.next(),
        nest.next(),
        nest.next()
    );
    write("etc/fstab", fstab.as_bytes());
    write("etc/debian_version", format!("is {}\n", nest.next()).as_bytes());
    write("etc/redhat-release", format!("unknown system of {}\n", nest.next()).as_bytes());
}

fn write_databases(nest: &mut Nest, write: &dyn Fn(&str, &[u8])) {
    let installed = "Status: install ok installed\nArchitecture: amd64\n";
    let mut status = format!(
        "Package: good-before\n{installed}Version: 1.0-1\nMaintainer: {} <{}@example.org>\nDescription: {}\n {}\nConffiles:\n \
         /etc/{} 0123\n\n",
        nest.next(),
        nest.next(),
        nest.next(),
        nest.next(),
        nest.next()
    );
    // Paragraphs whose every wanted field is bad in its way.
    status += &format!("Package: name with {}\n{installed}Version: 1\n\n", nest.next());
    status += &format!("Package: no-version\n{installed}Homepage: {}\n\n", nest.next());
    status += &format!("Package: bad-version\n{installed}Version: 1 {}\n\n", nest.next());
    status += &format!("Package: bad-source\n{installed}Version: 1\nSource: x (1 {}\n\n", nest.next());
    status += &format!("Package: twice\nPackage: {}\n{installed}Version: 1\n\n", nest.next());
    status += &format!("a line of {}\n\n", nest.next());
    status += &format!("Package: good-after\n{installed}Version: 2.0\n\n");
    write("var/lib/dpkg/status", status.as_bytes());
    let package =
        format!("Package: status-d-package\nVersion: 3\nArchitecture: all\nMaintainer: {}\n", nest.next());
    write("var/lib/dpkg/status.d/base", package.as_bytes());
    let bad = [nest.next().as_bytes(), b"\xff\xfe\x00", nest.next().as_bytes()].concat();
    write("var/lib/dpkg/status.d/rubbish", &bad);
    let apk = format!(
        "P:musl\nV:1.2.4-r2\nA:x86_64\nm:{}\nT:{}\nL:MIT\n\nP:person {}\nV:1\n\nP:no-version-{}\n\nrubbish {}\n\n",
        nest.next(),
        nest.next(),
        nest.next(),
        nest.next(),
        nest.next()
    );
    write("lib/apk/db/installed", apk.as_bytes());
    // Databases of rpm that begin well and hold rubbish.
    let rubbish = |nest: &mut Nest| [nest.next().as_bytes(), &[0xff; 300], nest.next().as_bytes()].concat();
    let sqlite =
        [b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20".as_slice(), &rubbish(nest), &vec![7; 8192]]
            .concat();
    write("var/lib/rpm/rpmdb.sqlite", &sqlite);
    write(
        "var/lib/rpm/Packages.db",
        &[b"RpmP".as_slice(), &[0; 28], &rubbish(nest), &vec![9; 4096]].concat(),
    );
    let mut berkeley = vec![0; 12];
    berkeley.extend(0x0006_1561_u32.to_le_bytes());
    berkeley.extend([8, 0, 0, 0, 0, 0x10, 0, 0]);
    write("var/lib/rpm/Packages", &[berkeley, rubbish(nest), vec![3; 8192]].concat());
}

fn write_secrets(nest: &mut Nest, write: &dyn Fn(&str, &[u8])) {
    write("etc/shadow", format!("root:$6${}$x:19000:0:99999:7:::\n", nest.next()).as_bytes());
    write("etc/passwd", format!("root:x:0:0:{}:/root:/bin/bash\n", nest.next()).as_bytes());
    let key =
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", nest.next());
    write("root/.ssh/id_rsa", key.as_bytes());
    write("srv/app/.env", format!("API_TOKEN={}\n", nest.next()).as_bytes());
    write("var/log/auth.log", format!("sshd: Failed password for {}\n", nest.next()).repeat(50).as_bytes());
    write(
        "usr/bin/program",
        &[b"\x7fELF\x02\x01\x01\0".as_slice(), nest.next().as_bytes(), &[0; 4096]].concat(),
    );
    // Long enough to have blocks of its own, so that an error may quote one.
    write("var/log/large.log", nest.next().repeat(4000).as_bytes());
    write("tiny", nest.next().as_bytes());
}

/// A good image but for two folders, and copies with damage.
fn images(place: &Place, attribute: &str, broken: &[String]) -> Vec<PathBuf> {
    let path = |name: &str| place.path(&format!("{name}{IMAGE_ENDING}"));
    let good = path("good");
    let tree = place.path(TREE);
    let (tree, image) = (tree.to_str().unwrap(), good.to_str().unwrap());
    tool("mke2fs", &["-q", "-F", "-t", "ext4", "-O", "^metadata_csum", "-d", tree, image, "8M"]);
    let unlink = |folder: &String| format!("set_inode_field {folder} links_count 0\n");
    let commands: String = broken.iter().map(unlink).collect();
    debugfs(place, image, &format!("{commands}ea_set /etc/hostname user.secret {attribute}\n"));

    // A magic of an extent tree that is none; a length that passes the blocks; a cut image; databases overwritten.
    let files =
        ["/var/lib/dpkg/status", "/var/lib/rpm/rpmdb.sqlite", "/etc/os-release", "/var/log/large.log"];
    let of_each = |field: &str| -> String {
        files.iter().map(|file| format!("set_inode_field {file} {field}\n")).collect()
    };
    let damages = [
        ("extents", of_each("block[0] 0x41414141")),
        ("lengths", of_each("size 900000000")),
        ("flags", of_each("flags 0x10000800")),
        (
            "folders",
            "set_inode_field /var/lib/dpkg block[0] 0x42424242\nset_inode_field /etc mode 0100644\n"
                .to_owned(),
        ),
    ];
    let mut images = vec![good.clone()];
    for (name, commands) in damages {
        let copy = path(name);
        fs::copy(&good, &copy).unwrap();
        debugfs(place, copy.to_str().unwrap(), &commands);
        images.push(copy);
    }
    images
}

fn debugfs(place: &Place, image: &str, commands: &str) {
    let script = place.path(&format!("debugfs{IMAGE_ENDING}"));
    fs::write(&script, commands).unwrap();
    tool("debugfs", &["-w", "-f", script.to_str().unwrap(), image]);
}
