"""The commands of the command line: functions of the parsed options that return an exit code."""
