//! Semantic types and their units: facts of DTDL 2 and of its quantitative types extension, as tables.
//! Read by the vocabulary; a later version is another column. Names only, in the order of the alphabet.

/// A semantic type and the unit type it wants; an empty one: the version does not have it.
pub(super) struct Quantity {
    pub(super) name: &'static str,
    pub(super) unit_type_v2: &'static str,
    pub(super) unit_type_v3: &'static str,
}

/// The units of a unit type, between blanks.
pub(super) struct UnitType {
    pub(super) name: &'static str,
    pub(super) units_v2: &'static str,
    pub(super) units_v3: &'static str,
}

const fn quantity(name: &'static str, unit_type_v2: &'static str, unit_type_v3: &'static str) -> Quantity {
    Quantity { name, unit_type_v2, unit_type_v3 }
}

const fn units(name: &'static str, units_v2: &'static str, units_v3: &'static str) -> UnitType {
    UnitType { name, units_v2, units_v3 }
}

/// In the column of DTDL 2: the same units as later.
pub(super) const SAME: &str = "=";

pub(super) const QUANTITIES: &[Quantity] = &[
    quantity("Acceleration", "AccelerationUnit", "AccelerationUnit"),
    quantity("Angle", "AngleUnit", "AngleUnit"),
    quantity("AngularAcceleration", "AngularAccelerationUnit", "AngularAccelerationUnit"),
    quantity("AngularVelocity", "AngularVelocityUnit", "AngularVelocityUnit"),
    quantity("ApparentEnergy", "", "ApparentEnergyUnit"),
    quantity("ApparentPower", "", "ApparentPowerUnit"),
    quantity("Area", "AreaUnit", "AreaUnit"),
    quantity("Capacitance", "CapacitanceUnit", "CapacitanceUnit"),
    quantity("Concentration", "", "Unitless"),
    quantity("Current", "CurrentUnit", "CurrentUnit"),
    quantity("DataRate", "DataRateUnit", "DataRateUnit"),
    quantity("DataSize", "DataSizeUnit", "DataSizeUnit"),
    quantity("Density", "DensityUnit", "DensityUnit"),
    quantity("Distance", "LengthUnit", "LengthUnit"),
    quantity("ElectricCharge", "ChargeUnit", "ChargeUnit"),
    quantity("Energy", "EnergyUnit", "EnergyUnit"),
    quantity("EnergyRate", "", "PowerUnit"),
    quantity("Force", "ForceUnit", "ForceUnit"),
    quantity("Frequency", "FrequencyUnit", "FrequencyUnit"),
    quantity("Humidity", "DensityUnit", "DensityUnit"),
    quantity("Illuminance", "IlluminanceUnit", "IlluminanceUnit"),
    quantity("Inductance", "InductanceUnit", "InductanceUnit"),
    quantity("IonizingRadiationDose", "", "IonizingRadiationDoseUnit"),
    quantity("Irradiance", "", "IrradianceUnit"),
    quantity("Latitude", "AngleUnit", "AngleUnit"),
    quantity("Length", "LengthUnit", "LengthUnit"),
    quantity("Longitude", "AngleUnit", "AngleUnit"),
    quantity("Luminance", "LuminanceUnit", "LuminanceUnit"),
    quantity("Luminosity", "PowerUnit", "PowerUnit"),
    quantity("LuminousFlux", "LuminousFluxUnit", "LuminousFluxUnit"),
    quantity("LuminousIntensity", "LuminousIntensityUnit", "LuminousIntensityUnit"),
    quantity("MagneticFlux", "MagneticFluxUnit", "MagneticFluxUnit"),
    quantity("MagneticInduction", "MagneticInductionUnit", "MagneticInductionUnit"),
    quantity("Mass", "MassUnit", "MassUnit"),
    quantity("MassFlowRate", "MassFlowRateUnit", "MassFlowRateUnit"),
    quantity("Power", "PowerUnit", "PowerUnit"),
    quantity("Pressure", "PressureUnit", "PressureUnit"),
    quantity("Radioactivity", "", "RadioactivityUnit"),
    quantity("ReactiveEnergy", "", "ReactiveEnergyUnit"),
    quantity("ReactivePower", "", "ReactivePowerUnit"),
    quantity("RelativeDensity", "", "Unitless"),
    quantity("RelativeHumidity", "Unitless", "Unitless"),
    quantity("Resistance", "ResistanceUnit", "ResistanceUnit"),
    quantity("SoundPressure", "SoundPressureUnit", "SoundPressureUnit"),
    quantity("Temperature", "TemperatureUnit", "TemperatureUnit"),
    quantity("Thrust", "ForceUnit", "ForceUnit"),
    quantity("TimeSpan", "TimeUnit", "TimeUnit"),
    quantity("Torque", "TorqueUnit", "TorqueUnit"),
    quantity("Velocity", "VelocityUnit", "VelocityUnit"),
    quantity("Voltage", "VoltageUnit", "VoltageUnit"),
    quantity("Volume", "VolumeUnit", "VolumeUnit"),
    quantity("VolumeFlowRate", "VolumeFlowRateUnit", "VolumeFlowRateUnit"),
];

pub(super) const UNIT_TYPES: &[UnitType] = &[
    units("AccelerationUnit", SAME, "centimetrePerSecondSquared gForce metrePerSecondSquared"),
    units("AngleUnit", SAME, "degreeOfArc minuteOfArc radian secondOfArc turn"),
    units("AngularAccelerationUnit", SAME, "radianPerSecondSquared"),
    units(
        "AngularVelocityUnit",
        SAME,
        "degreePerSecond radianPerSecond revolutionPerMinute revolutionPerSecond",
    ),
    units(
        "ApparentEnergyUnit",
        "",
        "gigavoltAmpereHour kilovoltAmpereHour megavoltAmpereHour voltAmpereHour",
    ),
    units("ApparentPowerUnit", "", "gigavoltAmpere kilovoltAmpere megavoltAmpere millivoltAmpere voltAmpere"),
    units(
        "AreaUnit",
        SAME,
        "acre hectare squareCentimetre squareFoot squareInch squareKilometre squareMetre squareMillimetre",
    ),
    units("CapacitanceUnit", SAME, "farad microfarad millifarad nanofarad picofarad"),
    units("ChargeUnit", "coulomb", "ampereHour coulomb milliampereHour"),
    units("CurrentUnit", "ampere microampere milliampere", "ampere kiloampere microampere milliampere"),
    units(
        "DataRateUnit",
        SAME,
        "bitPerSecond bytePerSecond exbibitPerSecond exbibytePerSecond gibibitPerSecond gibibytePerSecond kibibitPerSecond kibibytePerSecond mebibitPerSecond mebibytePerSecond tebibitPerSecond tebibytePerSecond yobibitPerSecond yobibytePerSecond zebibitPerSecond zebibytePerSecond",
    ),
    units(
        "DataSizeUnit",
        SAME,
        "bit byte exbibit exbibyte gibibit gibibyte kibibit kibibyte mebibit mebibyte tebibit tebibyte yobibit yobibyte zebibit zebibyte",
    ),
    units(
        "DensityUnit",
        "gramPerCubicMetre kilogramPerCubicMetre",
        "gramPerCubicMetre kilogramPerCubicMetre microgramPerCubicMetre milligramPerCubicMetre",
    ),
    units(
        "EnergyUnit",
        "electronvolt gigajoule joule kilojoule kilowattHour megaelectronvolt megajoule",
        "britishThermalUnit electronvolt gigajoule gigawattHour joule kiloBritishThermalUnit kilojoule kilowattHour megaelectronvolt megajoule megawattHour milliwattHour terawattHour wattHour",
    ),
    units("ForceUnit", SAME, "newton ounce pound ton"),
    units(
        "FrequencyUnit",
        "gigahertz hertz kilohertz megahertz",
        "gigahertz hertz kilohertz megahertz millihertz",
    ),
    units("IlluminanceUnit", SAME, "footcandle lux"),
    units("InductanceUnit", SAME, "henry microhenry millihenry"),
    units("IonizingRadiationDoseUnit", "", "gray microgray microsievert milligray millisievert sievert"),
    units("IrradianceUnit", "", "wattPerSquareMetre"),
    units(
        "LengthUnit",
        SAME,
        "astronomicalUnit centimetre foot inch kilometre metre micrometre mile millimetre nanometre nauticalMile",
    ),
    units("LuminanceUnit", SAME, "candelaPerSquareMetre"),
    units("LuminousFluxUnit", SAME, "lumen"),
    units("LuminousIntensityUnit", SAME, "candela"),
    units("MagneticFluxUnit", SAME, "maxwell weber"),
    units("MagneticInductionUnit", "tesla", "gauss tesla"),
    units(
        "MassFlowRateUnit",
        "gramPerHour gramPerSecond kilogramPerHour kilogramPerSecond",
        "gramPerHour gramPerSecond kilogramPerHour kilogramPerSecond massPoundPerHour",
    ),
    units(
        "MassUnit",
        "gram kilogram microgram milligram slug tonne",
        "gram kilogram massPound microgram milligram slug tonne",
    ),
    units(
        "PowerUnit",
        "gigawatt horsepower kilowatt kilowattHourPerYear megawatt microwatt milliwatt watt",
        "britishThermalUnitPerHour gigajoulePerHour gigawatt horsepower joulePerHour joulePerSecond kiloBritishThermalUnitPerHour kilojoulePerHour kilojoulePerSecond kilowatt kilowattHourPerYear megajoulePerHour megawatt microwatt milliwatt tonOfRefrigeration watt",
    ),
    units(
        "PressureUnit",
        "bar inchesOfMercury inchesOfWater kilopascal millibar millimetresOfMercury pascal poundPerSquareInch",
        "bar decapascal hectopascal inchesOfMercury inchesOfWater kilopascal millibar millimetresOfMercury pascal poundPerSquareInch",
    ),
    units("RadioactivityUnit", "", "becquerel gigabecquerel kilobecquerel megabecquerel"),
    units(
        "ReactiveEnergyUnit",
        "",
        "gigavoltAmpereReactiveHour kilovoltAmpereReactiveHour megavoltAmpereReactiveHour voltAmpereReactiveHour",
    ),
    units(
        "ReactivePowerUnit",
        "",
        "gigavoltAmpereReactive kilovoltAmpereReactive megavoltAmpereReactive millivoltAmpereReactive voltAmpereReactive",
    ),
    units("ResistanceUnit", SAME, "kiloohm megaohm milliohm ohm"),
    units("SoundPressureUnit", SAME, "bel decibel"),
    units("TemperatureUnit", SAME, "degreeCelsius degreeFahrenheit kelvin"),
    units("TimeUnit", SAME, "day hour microsecond millisecond minute nanosecond second year"),
    units("TorqueUnit", SAME, "newtonMetre"),
    units(
        "Unitless",
        "percent unity",
        "partsPerBillion partsPerMillion partsPerQuadrillion partsPerTrillion percent unity",
    ),
    units(
        "VelocityUnit",
        SAME,
        "centimetrePerSecond kilometrePerHour kilometrePerSecond knot metrePerHour metrePerSecond milePerHour milePerSecond",
    ),
    units("VoltageUnit", SAME, "kilovolt megavolt microvolt millivolt volt"),
    units(
        "VolumeFlowRateUnit",
        "litrePerHour litrePerSecond millilitrePerHour millilitrePerSecond",
        "cubicFootPerMinute cubicMetrePerHour cubicMetrePerMinute cubicMetrePerSecond gallonPerHour gallonPerMinute litrePerHour litrePerMinute litrePerSecond millilitrePerHour millilitrePerMinute millilitrePerSecond",
    ),
    units(
        "VolumeUnit",
        SAME,
        "cubicCentimetre cubicFoot cubicInch cubicMetre fluidOunce gallon litre millilitre",
    ),
];
