"""What several programs of a cluster must call alike: labels, titles and exit statuses."""

GROUP_LABEL = "simyard-group"
"""Names a machine's group, as a label in Ray and as a tag in its cloud."""

GENERATION_TAG = "simyard-generation"
"""The tag of a machine in its cloud that names the server which launched it."""

MACHINE_LABEL = "simyard-machine"
"""Names a machine, where that is not its host's name: several may be on one host."""

DISK_LABEL = "simyard-disk"
"""Says how many bytes of a machine's disk tasks may reserve together."""

CARRIER = "ray::SimulatorActor"
"""How the titles of the processes begin that carry runs."""

DISPATCHER = "ray::DispatcherActor"
"""How the title of the dispatcher's process begins."""

AZURE_PROVIDER = "cluster.azure.Azure"
"""How the autoscaler's file names our provider of Azure."""

GCP_PROVIDER = "cluster.gcp.Gcp"
"""How the autoscaler's file names our provider of Google Cloud."""

EC2_PROVIDER = "cluster.ec2.Ec2"
"""How the autoscaler's file names our provider of EC2."""

LAUNCHES = "launches_file"
"""The key of the file's provider under which that one finds where to write why machines could not be started."""

TOGETHER = "SimyardTogether"
"""The key of a node type's configuration that says whether its machines come together; no cloud gets to see it."""

LET_GO = 10
"""Exit status of the program that holds a machine's Ray processes, when Ray has let the machine go."""
