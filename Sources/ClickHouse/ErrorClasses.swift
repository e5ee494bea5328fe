public import IngestCore

/// Which exception code of ClickHouse means what: the error policy as data.
///
/// The code decides, not the HTTP status: data errors and passing ones alike come as 500
/// [ClickHouse: src/Common/ErrorCodes.cpp, src/Server/HTTP/exceptionCodeToHTTPStatus.cpp].
public struct ErrorClasses: Sendable {
    /// The code's name and class. One line a code, by class and number.
    private static let table: [Int: (name: StaticString, failureClass: FailureClass)] = [
        // An event can't be inserted.
        6: ("CANNOT_PARSE_TEXT", .rowData),
        19: ("SIZE_OF_FIXED_STRING_DOESNT_MATCH", .rowData),
        25: ("CANNOT_PARSE_ESCAPE_SEQUENCE", .rowData),
        26: ("CANNOT_PARSE_QUOTED_STRING", .rowData),
        27: ("CANNOT_PARSE_INPUT_ASSERTION_FAILED", .rowData),
        32: ("ATTEMPT_TO_READ_AFTER_EOF", .rowData),
        33: ("CANNOT_READ_ALL_DATA", .rowData),
        38: ("CANNOT_PARSE_DATE", .rowData),
        41: ("CANNOT_PARSE_DATETIME", .rowData),
        50: ("UNKNOWN_TYPE", .rowData),
        53: ("TYPE_MISMATCH", .rowData),
        62: ("SYNTAX_ERROR", .rowData),
        69: ("ARGUMENT_OUT_OF_BOUND", .rowData),
        70: ("CANNOT_CONVERT_TYPE", .rowData),
        72: ("CANNOT_PARSE_NUMBER", .rowData),
        92: ("EMPTY_DATA_PASSED", .rowData),
        117: ("INCORRECT_DATA", .rowData),
        128: ("TOO_LARGE_ARRAY_SIZE", .rowData),
        130: ("CANNOT_READ_ARRAY_FROM_TEXT", .rowData),
        131: ("TOO_LARGE_STRING_SIZE", .rowData),
        190: ("SIZES_OF_ARRAYS_DONT_MATCH", .rowData),
        321: ("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", .rowData),
        349: ("CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", .rowData),
        376: ("CANNOT_PARSE_UUID", .rowData),
        407: ("DECIMAL_OVERFLOW", .rowData),
        441: ("CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING", .rowData),
        444: ("UNKNOWN_PROTOBUF_FORMAT", .rowData),
        467: ("CANNOT_PARSE_BOOL", .rowData),
        469: ("VIOLATED_CONSTRAINT", .rowData),
        563: ("CANNOT_READ_MAP_FROM_TEXT", .rowData),

        // The destination is set up wrongly.
        8: ("THERE_IS_NO_COLUMN", .configuration),
        16: ("NO_SUCH_COLUMN_IN_TABLE", .configuration),
        47: ("UNKNOWN_IDENTIFIER", .configuration),
        56: ("UNKNOWN_STORAGE", .configuration),
        60: ("UNKNOWN_TABLE", .configuration),
        73: ("UNKNOWN_FORMAT", .configuration),
        81: ("UNKNOWN_DATABASE", .configuration),
        115: ("UNKNOWN_SETTING", .configuration),
        164: ("READONLY", .configuration),
        192: ("UNKNOWN_USER", .configuration),
        193: ("WRONG_PASSWORD", .configuration),
        194: ("REQUIRED_PASSWORD", .configuration),
        195: ("IP_ADDRESS_NOT_ALLOWED", .configuration),
        291: ("DATABASE_ACCESS_DENIED", .configuration),
        452: ("SETTING_CONSTRAINT_VIOLATION", .configuration),
        497: ("ACCESS_DENIED", .configuration),
        511: ("UNKNOWN_ROLE", .configuration),
        512: ("SET_NON_GRANTED_ROLE", .configuration),
        516: ("AUTHENTICATION_FAILED", .configuration),

        // The batch is too large at this moment.
        158: ("TOO_MANY_ROWS", .batchShape),
        229: ("QUERY_IS_TOO_LARGE", .batchShape),
        241: ("MEMORY_LIMIT_EXCEEDED", .batchShape),
        307: ("TOO_MANY_BYTES", .batchShape),
        565: ("TOO_MANY_PARTITIONS", .batchShape),

        // Passes by itself.
        159: ("TIMEOUT_EXCEEDED", .transient),
        198: ("DNS_ERROR", .transient),
        201: ("QUOTA_EXCEEDED", .transient),
        202: ("TOO_MANY_SIMULTANEOUS_QUERIES", .transient),
        203: ("NO_FREE_CONNECTION", .transient),
        209: ("SOCKET_TIMEOUT", .transient),
        210: ("NETWORK_ERROR", .transient),
        225: ("NO_ZOOKEEPER", .transient),
        236: ("ABORTED", .transient),
        242: ("TABLE_IS_READ_ONLY", .transient),
        243: ("NOT_ENOUGH_SPACE", .transient),
        244: ("UNEXPECTED_ZOOKEEPER_ERROR", .transient),
        252: ("TOO_MANY_PARTS", .transient),
        254: ("NO_ACTIVE_REPLICAS", .transient),
        265: ("NO_AVAILABLE_REPLICA", .transient),
        279: ("ALL_CONNECTION_TRIES_FAILED", .transient),
        285: ("TOO_FEW_LIVE_REPLICAS", .transient),
        286: ("UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", .transient),
        289: ("REPLICA_IS_NOT_IN_QUORUM", .transient),
        297: ("SHARD_HAS_NO_CONNECTIONS", .transient),
        319: ("UNKNOWN_STATUS_OF_INSERT", .transient),
        364: ("RECEIVED_ERROR_TOO_MANY_REQUESTS", .transient),
        384: ("PART_IS_TEMPORARILY_LOCKED", .transient),
        425: ("SYSTEM_ERROR", .transient),
        439: ("CANNOT_SCHEDULE_TASK", .transient),
        473: ("DEADLOCK_AVOIDED", .transient),
        574: ("DISTRIBUTED_TOO_MANY_PENDING_BYTES", .transient),
        999: ("KEEPER_EXCEPTION", .transient),
        1000: ("POCO_EXCEPTION", .transient),
    ]

    /// Codes that a bad event gives, and something else too. They are data errors only where the server names a row;
    /// otherwise: a body that did not arrive whole, and a statement that the server does not understand.
    private static let withoutRow: [Int: FailureClass] = [33: .transient, 50: .configuration, 62: .configuration]

    private let overrides: [Int: FailureClass]

    /// - Parameter overrides: classes that differ from the table, by code; they win over everything.
    public init(overrides: [Int: FailureClass] = [:]) {
        self.overrides = overrides
    }

    /// How to go on after an exception.
    /// - Parameters:
    ///   - code: ClickHouse's exception code.
    ///   - httpStatus: decides where the table does not know the code: 4xx is a data error, all else passes.
    ///   - namesRow: whether the message has `(at row N)`.
    public func failureClass(code: Int, httpStatus: Int, namesRow: Bool) -> FailureClass {
        if let override = overrides[code] { return override }
        if !namesRow, let failureClass = Self.withoutRow[code] { return failureClass }
        if let known = Self.table[code] { return known.failureClass }
        return (400...499).contains(httpStatus) ? .rowData : .transient
    }

    /// How to go on after an answer without an exception code: not in ClickHouse's words, so a proxy's, or those of
    /// something else at that address. What says "not here" or "not you" is the operator's to mend.
    public func failureClass(httpStatus: Int) -> FailureClass {
        switch httpStatus {
        case 300...399, 401, 403, 404, 405, 407: .configuration
        case 413: .batchShape
        case 408, 425, 429: .transient
        case 400...499: .rowData
        default: .transient
        }
    }

    /// ClickHouse's name of the code, if the table has it.
    public static func name(of code: Int) -> String? { table[code].map { String(describing: $0.name) } }
}
