"""Recalibration: maps from forecasts to better calibrated forecasts, fitted on outcomes.

Importing the package registers every map in :data:`prefcal.recalibration.base.METHODS`.
"""

from prefcal.recalibration import auto as auto
from prefcal.recalibration import back_off as back_off
from prefcal.recalibration import categorical as categorical
from prefcal.recalibration import contextual as contextual
from prefcal.recalibration import grouped as grouped
from prefcal.recalibration import mallows as mallows
from prefcal.recalibration import monotone as monotone
from prefcal.recalibration import offsets as offsets
from prefcal.recalibration import stages as stages
from prefcal.recalibration import temperature as temperature
from prefcal.recalibration import ties as ties
from prefcal.recalibration import uniform as uniform
from prefcal.recalibration.base import METHODS as METHODS
from prefcal.recalibration.base import Recalibrator as Recalibrator
from prefcal.recalibration.fitting import recalibrate as recalibrate
from prefcal.recalibration.persistence import load_recalibrator as load_recalibrator
