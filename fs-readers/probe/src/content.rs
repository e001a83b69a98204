use std::fmt;

/// What a volume holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Content {
    /// A filesystem that a reader opens.
    Filesystem(FsKind),
    /// An encrypted container.
    Encrypted(EncryptionKind),
    /// A part of something that may span several disks.
    Member(MemberKind),
    /// A format that no reader opens.
    Unsupported(UnsupportedKind),
    /// Swap space.
    Swap(SwapKind),
    /// Code that the firmware or a boot sector loads, and no filesystem.
    BootCode(BootCodeKind),
    /// Not one byte that is not zero.
    Empty,
    /// Something without a signature that is known here.
    Unknown {
        /// The offset in bytes of the first byte that is not zero.
        first_non_zero: u64,
        /// Whether the bytes from there on are spread evenly over all values, as those of encrypted or compressed data
        /// are.
        looks_random: bool,
    },
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem(kind) => kind.fmt(f),
            Self::Encrypted(kind) => kind.fmt(f),
            Self::Member(kind) => kind.fmt(f),
            Self::Unsupported(kind) => kind.fmt(f),
            Self::Swap(kind) => kind.fmt(f),
            Self::BootCode(kind) => kind.fmt(f),
            Self::Empty => f.write_str("empty"),
            Self::Unknown { looks_random: true, .. } => f.write_str("unknown (looks random)"),
            Self::Unknown { looks_random: false, .. } => f.write_str("unknown"),
        }
    }
}

/// Declares an enum of kinds with the name that each has in a report.
macro_rules! kinds {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_meta])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in a report.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

kinds! {
    /// Filesystems that have a reader.
    FsKind {
        /// ext2, ext3 or ext4: the reader says which.
        Ext = "ext",
        /// XFS.
        Xfs = "xfs",
        /// btrfs.
        Btrfs = "btrfs",
        /// NTFS.
        Ntfs = "ntfs",
        /// FAT12, FAT16 or FAT32.
        Fat = "vfat",
        /// exFAT.
        ExFat = "exfat",
        /// squashfs 4.
        Squashfs = "squashfs",
        /// ISO 9660, with Rock Ridge or Joliet or neither.
        Iso9660 = "iso9660",
    }
}

kinds! {
    /// Encrypted containers.
    EncryptionKind {
        /// LUKS version 1.
        Luks1 = "LUKS1",
        /// LUKS version 2.
        Luks2 = "LUKS2",
        /// BitLocker, BitLocker To Go too.
        BitLocker = "BitLocker",
        /// Apple CoreStorage, which carries FileVault 2.
        CoreStorage = "CoreStorage",
    }
}

kinds! {
    /// The places and layouts of an md superblock.
    MdVersion {
        /// 0.90: in the last 64 to 128 KiB.
        V0_90 = "0.90",
        /// 1.0: in the last 8 to 12 KiB.
        V1_0 = "1.0",
        /// 1.1: at the start.
        V1_1 = "1.1",
        /// 1.2: 4 KiB after the start.
        V1_2 = "1.2",
    }
}

/// What a volume can be a part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemberKind {
    /// A physical volume of LVM2.
    Lvm2,
    /// A member of a Linux md array.
    Md(MdVersion),
    /// A cache or backing device of bcache.
    Bcache,
    /// A device of a ZFS pool.
    Zfs,
    /// A disk of a Windows Storage Spaces pool.
    StorageSpaces,
    /// A Windows dynamic disk, or its database (Logical Disk Manager).
    LogicalDiskManager,
    /// A member of an Intel Matrix (IMSM) firmware array.
    IntelMatrix,
    /// A member of an array in the SNIA Disk Data Format.
    Ddf,
    /// A Stratis pool's device.
    Stratis,
    /// The storage of a VDO device.
    Vdo,
    /// A dm-integrity device.
    DmIntegrity,
    /// The hash tree of a dm-verity device.
    DmVerityHash,
    /// The metadata of a device-mapper thin pool.
    ThinPoolMetadata,
    /// An Oracle ASM disk.
    OracleAsm,
    /// A Ceph BlueStore device.
    BlueStore,
}

impl MemberKind {
    /// The name in a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md(MdVersion::V0_90) => "md 0.90 member",
            Self::Md(MdVersion::V1_0) => "md 1.0 member",
            Self::Md(MdVersion::V1_1) => "md 1.1 member",
            Self::Md(MdVersion::V1_2) => "md 1.2 member",
            Self::Lvm2 => "LVM2 physical volume",
            Self::Bcache => "bcache device",
            Self::Zfs => "ZFS pool device",
            Self::StorageSpaces => "Storage Spaces disk",
            Self::LogicalDiskManager => "Windows dynamic disk",
            Self::IntelMatrix => "Intel Matrix RAID member",
            Self::Ddf => "DDF RAID member",
            Self::Stratis => "Stratis pool device",
            Self::Vdo => "VDO storage",
            Self::DmIntegrity => "dm-integrity device",
            Self::DmVerityHash => "dm-verity hash tree",
            Self::ThinPoolMetadata => "thin pool metadata",
            Self::OracleAsm => "Oracle ASM disk",
            Self::BlueStore => "Ceph BlueStore device",
        }
    }
}

impl fmt::Display for MemberKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

kinds! {
    /// Formats that are recognised and not read.
    UnsupportedKind {
        /// squashfs before version 4, which may be big-endian.
        OldSquashfs = "squashfs before version 4",
        /// EROFS.
        Erofs = "erofs",
        /// High Sierra, which became ISO 9660.
        HighSierra = "High Sierra",
        /// UDF.
        Udf = "udf",
        /// F2FS.
        F2fs = "f2fs",
        /// HFS, the one before HFS+.
        Hfs = "hfs",
        /// HFS+ or HFSX.
        HfsPlus = "hfsplus",
        /// An APFS container.
        Apfs = "apfs",
        /// ReiserFS 3.
        ReiserFs = "reiserfs",
        /// Reiser4.
        Reiser4 = "reiser4",
        /// JFS.
        Jfs = "jfs",
        /// NILFS2.
        Nilfs2 = "nilfs2",
        /// ReFS.
        Refs = "ReFS",
        /// UFS1 or UFS2, of either byte order.
        Ufs = "ufs",
        /// VMFS.
        Vmfs = "VMFS",
        /// cramfs.
        Cramfs = "cramfs",
        /// romfs.
        Romfs = "romfs",
        /// Minix, versions 1 to 3.
        Minix = "minix",
        /// OCFS2.
        Ocfs2 = "ocfs2",
        /// GFS2.
        Gfs2 = "gfs2",
        /// bcachefs.
        Bcachefs = "bcachefs",
        /// The external journal of an ext filesystem.
        ExtJournal = "jbd",
        /// An Apple partition map.
        ApplePartitionMap = "Apple partition map",
        /// A BSD disklabel.
        BsdDisklabel = "BSD disklabel",
        /// A Sun disk label.
        SunLabel = "Sun disk label",
    }
}

kinds! {
    /// What swap space holds.
    SwapKind {
        /// Pages of running processes.
        Swap = "swap",
        /// The memory of a machine that hibernates.
        Hibernation = "hibernation image",
    }
}

kinds! {
    /// Code that starts a machine.
    BootCodeKind {
        /// GRUB's core image for a BIOS.
        GrubCore = "GRUB core image",
        /// A verified ChromeOS kernel (Container-Optimized OS too).
        ChromeOsKernel = "ChromeOS kernel",
        /// A PowerPC executable, as a PReP boot partition holds.
        PowerPcElf = "PowerPC boot executable",
    }
}
