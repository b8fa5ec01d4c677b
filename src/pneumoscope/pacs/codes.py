"""The coded concepts of the reports: DICOM (PS3.16), SNOMED CT and UCUM.

Concepts that pydicom's copy of PS3.16 contains are taken from there by keyword. A test checks that each keyword still
has the code that is meant, and compares the concepts that are written out with a second source.
"""

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

#: What a report is about, and what the model looks for.
PLAIN_CHEST_XRAY = Code("399208008", "SCT", "Plain chest X-ray")
PNEUMONIA = Code("233604007", "SCT", "Pneumonia")
BACTERIAL_PNEUMONIA = Code("53084003", "SCT", "Bacterial pneumonia")
VIRAL_PNEUMONIA = Code("75570004", "SCT", "Viral pneumonia")
LUNG: Code = codes.SCT.Lung

#: Numbers: how sure the model is, and from which value on it says PNEUMONIA. Both are percentages.
CERTAINTY: Code = codes.DCM.CertaintyOfFinding
THRESHOLD: Code = codes.DCM.ThresholdValue
PERCENT: Code = codes.UCUM.Percent

#: The verdict, as the value of :data:`PRESENCE`.
PRESENCE: Code = codes.DCM.PresenceOfProperty
PRESENT: Code = codes.SCT.Present
ABSENT: Code = codes.SCT.Absent
INDETERMINATE: Code = codes.SCT.Indeterminate

#: What became of the analysis, as the value of :data:`ANALYSES`.
ANALYSES: Code = codes.DCM.SummaryOfAnalyses
SUCCEEDED: Code = codes.DCM.Succeeded
NOT_ATTEMPTED: Code = codes.DCM.NotAttempted
FAILED: Code = codes.DCM.Failed

COMMENT: Code = codes.DCM.Comment
ARTIFICIAL_INTELLIGENCE: Code = codes.DCM.ArtificialIntelligence
