"""Which 512 KiB blocks of a disk hold the metadata that a walk must see, as other tools than ours say.

That is: the inodes that have a name, the content of directories, and what tells where those are. Inodes come from the
kernel, which lists the mounted filesystem; where things are comes from dumpe2fs, debugfs, xfs_db and `btrfs
inspect-internal dump-tree`.
"""

import re
import subprocess

BLOCK_BYTES = 512 * 1024


def output(*command, text=None):
    command = [str(word) for word in command]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=True, errors="replace").stdout


def listed(folder):
    """The inode numbers of all entries of a mounted filesystem and of its root, and those of folders."""
    rows = [row.split() for row in output("find", folder, "-xdev", "-printf", "%i %y\n").splitlines()]
    return {int(number) for number, _ in rows}, {int(number) for number, kind in rows if kind == "d"}


def of_ext4(image, start, folder):
    place = f"{image}?offset={start}"
    header = output("dumpe2fs", place)
    value = lambda name: int(re.search(rf"^{name}:\s+(\d+)", header, re.M)[1])
    block_bytes, inode_bytes, per_group = value("Block size"), value("Inode size"), value("Inodes per group")
    tables = [int(block) for block in re.findall(r"Inode table at (\d+)", header)]
    inodes, folders = listed(folder)
    # The superblock and the descriptors, and the journal's superblock, which says whether it is empty.
    descriptors = int(re.search(r"Group descriptors at \d+-(\d+)", header)[1])
    pieces = {block * block_bytes for block in range(descriptors + 1)}
    for inode in inodes | {8}:
        group, index = divmod(inode - 1, per_group)
        pieces.add(tables[group] * block_bytes + index * inode_bytes)
    asked = "".join(f"blocks <{inode}>\n" for inode in folders)
    # Each command is echoed before what it says.
    for line in output("debugfs", "-f", "-", place, text=asked).splitlines():
        if not line.startswith("debugfs"):
            pieces.update(int(block) * block_bytes for block in line.split() if block != "0")
    journal = output("debugfs", "-R", "blocks <8>", place).split()
    pieces.add(int(journal[0]) * block_bytes)
    return {(start + piece) // BLOCK_BYTES for piece in pieces}


def of_xfs(image, start, folder):
    if start:
        raise ValueError("xfs_db reads no filesystem inside a disk")
    fields = output("xfs_db", "-r", "-c", "sb 0", "-c", "p", image)
    value = lambda name: int(re.search(rf"^{name} = (\d+)", fields, re.M)[1])
    block_bytes, ag_blocks, ag_shift = value("blocksize"), value("agblocks"), value("agblklog")
    inode_shift, inode_bytes = value("inopblog"), value("inodesize")
    inodes, folders = listed(folder)

    def block_at(group, block):
        return (group * ag_blocks + block) * block_bytes

    pieces = {0}
    for inode in inodes:
        index = inode & ((1 << inode_shift) - 1)
        block = (inode >> inode_shift) & ((1 << ag_shift) - 1)
        pieces.add(block_at(inode >> (inode_shift + ag_shift), block) + index * inode_bytes)
    asked = "".join(f"inode {inode}\nbmap\n" for inode in folders)
    for line in output("xfs_db", "-r", image, text=asked).splitlines():
        extent = re.search(r"offset \d+ startblock \d+ \((\d+)/(\d+)\) count (\d+)", line)
        if extent:
            group, block, count = (int(number) for number in extent.groups())
            pieces.update(block_at(group, block + index) for index in range(count))
    return {piece // BLOCK_BYTES for piece in pieces}


def of_btrfs(image, start, _folder):
    if start:
        raise ValueError("btrfs inspect-internal reads no filesystem inside a disk")
    chunks, logical = [], None
    for line in output("btrfs", "inspect-internal", "dump-tree", "-t", "chunk", image).splitlines():
        item = re.search(r"key \(FIRST_CHUNK_TREE CHUNK_ITEM (\d+)\)", line)
        length = re.search(r"^\s+length (\d+) owner", line)
        stripe = re.search(r"stripe 0 devid 1 offset (\d+)", line)
        if item:
            logical = int(item[1])
        elif length:
            size = int(length[1])
        elif stripe:
            chunks.append((logical, size, int(stripe[1])))
    header = output("btrfs", "inspect-internal", "dump-super", image)
    node_bytes = int(re.search(r"^nodesize\s+(\d+)", header, re.M)[1])
    pieces = {64 * 1024}
    for tree in ("root", "chunk", "5"):
        dump = output("btrfs", "inspect-internal", "dump-tree", "-t", tree, image)
        for address in re.findall(r"^(?:leaf|node) (\d+) ", dump, re.M):
            address = int(address)
            for logical, size, offset in chunks:
                if logical <= address < logical + size:
                    first = offset + address - logical
                    pieces.update((first, first + node_bytes - 1))
    return {piece // BLOCK_BYTES for piece in pieces}


def metadata_blocks(kind, image, start, folder):
    return {"ext4": of_ext4, "xfs": of_xfs, "btrfs": of_btrfs}[kind](image, start, folder)
