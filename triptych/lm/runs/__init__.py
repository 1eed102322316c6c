"""A training run as a durable thing: folder, state, queue, worker, API.

Every fact about a run is a file in its folder, so any process can read it and none has to be
alive for it to be true. `states` derives the state from those files; `store` keeps the folders;
`control` writes the desired state; `supervisor` starts workers, which outlive it. A worker
trains here, on several machines (`node`), or in a job on a hub (`remote`).
"""
