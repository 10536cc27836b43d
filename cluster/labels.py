"""What several programs of a cluster must call alike: labels, titles and exit statuses."""

GROUP_LABEL = "simyard-group"
"""Names a machine's group, as a label in Ray and as a tag in its cloud."""

GENERATION_TAG = "simyard-generation"
"""The tag of a machine in its cloud that names the server which launched it."""

CLUSTER_TAG, KIND_TAG, NODE_TYPE_TAG = "ray-cluster-name", "ray-node-type", "ray-user-node-type"
"""As in `ray.autoscaler.tags`, which is not imported for them: the stores know this module, and are light."""

MACHINE_LABEL = "simyard-machine"
"""Names a machine, where that is not its host's name: several may be on one host."""

DISK_LABEL = "simyard-disk"
"""Says how many bytes of a machine's disk tasks may reserve together."""

CARRIER = "ray::SimulatorActor"
"""How the titles of the processes begin that carry runs."""

DISPATCHER = "ray::DispatcherActor"
"""How the title of the dispatcher's process begins."""

PROVIDERS = {"aws": "cluster.ec2.Ec2", "azure": "cluster.azure.Azure", "gcp": "cluster.gcp.Gcp"}
"""By way of which provider of ours the autoscaler calls that of Ray's, by the cloud's name."""

LAUNCHES = "launches_file"
"""The key of the file's provider under which that one finds where to write why machines could not be started."""

TOGETHER = "SimyardTogether"
"""The key of a node type's configuration that says whether its machines come together; no cloud gets to see it."""

LET_GO = 10
"""Exit status of the program that holds a machine's Ray processes, when Ray has let the machine go."""
