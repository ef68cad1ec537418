"""Where is the model worst? Groups of fields, and conjunctions of two, with the search accounted for."""

from prefcal.grouping.found import GroupError as GroupError
from prefcal.grouping.found import HeldOut as HeldOut
from prefcal.grouping.found import Pooling as Pooling
from prefcal.grouping.found import Worst as Worst
from prefcal.grouping.worst import MIN_INSTANCES as MIN_INSTANCES
from prefcal.grouping.worst import worst_conjunction as worst_conjunction
from prefcal.grouping.worst import worst_group as worst_group
