"""The agent: a process of its own that uploads the journals beneath one root, beats for their runs, and ends them."""
