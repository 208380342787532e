"""Programs that run a peer library in an interpreter of its own, where its pins and ours cannot be in one."""
