import IngestCore
import Testing

@testable import ClickHouse

struct ServerAnswerTests {
    private func answer(_ status: Int, headers: [String] = [], body: String = "") -> ServerAnswer {
        var answer = ServerAnswer()
        for line in ["HTTP/1.1 \(status) Words"] + headers + [""] {
            (line + "\r\n").withCString {
                answer.appendHeader(UnsafeRawBufferPointer(start: $0, count: line.utf8.count + 2))
            }
        }
        Array(body.utf8).withUnsafeBytes { answer.appendBody($0) }
        return answer
    }

    private let old = """
        Code: 27, e.displayText() = DB::Exception: Cannot parse input: expected { before: x: (at row 3)
        , e.what() = DB::Exception

        """
    private let new = """
        Code: 117. DB::Exception: Unknown field found while parsing JSONEachRow format: b: (at row 12)
        : While executing ParallelParsingBlockInputFormat. (INCORRECT_DATA) (version 26.9.2.1)

        """

    @Test func successIsOnlyAnEmpty200() {
        #expect(answer(200).isInsertSuccess)
        #expect(answer(200, headers: ["X-ClickHouse-Summary: {}"]).isInsertSuccess)
        #expect(!answer(200, headers: ["X-ClickHouse-Exception-Code: 209"]).isInsertSuccess)
        #expect(!answer(200, headers: ["x-clickhouse-exception-code:209"]).isInsertSuccess)
        #expect(!answer(200, headers: ["X-ClickHouse-Exception-Code: garbage"]).isInsertSuccess)
        #expect(!answer(200, body: "\r\n__exception__\r\n").isInsertSuccess)
        #expect(!answer(204).isInsertSuccess)
        #expect(!answer(500).isInsertSuccess)
        #expect(!ServerAnswer().isInsertSuccess)
    }

    /// curl takes a connection that ends within the header for the end of an answer.
    @Test func halfAHeaderIsNoSuccess() {
        var answer = ServerAnswer()
        for line in ["HTTP/1.1 200 OK\r\n", "X-ClickHouse-Summary: {}\r\n"] {
            line.withCString { answer.appendHeader(UnsafeRawBufferPointer(start: $0, count: line.utf8.count)) }
        }
        #expect(!answer.isComplete && !answer.isInsertSuccess)
    }

    @Test func readsTheOldServersException() {
        let failure = answer(500, body: old).failure(ErrorClasses())
        #expect(failure.clickHouseCode == 27)
        #expect(failure.httpStatus == 500)
        #expect(failure.failureClass == .rowData)
        #expect(failure.rowHint == 3)
        #expect(failure.message.hasPrefix("Code: 27"))
        #expect(failure.message.hasSuffix("e.what() = DB::Exception"))
    }

    @Test func readsTodaysException() {
        let failure = answer(400, headers: ["X-ClickHouse-Exception-Code: 117"], body: new).failure(ErrorClasses())
        #expect(failure.clickHouseCode == 117)
        #expect(failure.failureClass == .rowData)
        #expect(failure.rowHint == 12)
        #expect(answer(400, body: new).failure(ErrorClasses()).clickHouseCode == 117)
    }

    @Test func headerWithoutTextStillHasAMessage() {
        let failure = answer(200, headers: ["X-ClickHouse-Exception-Code: 209"]).failure(ErrorClasses())
        #expect(failure.failureClass == .transient)
        #expect(failure.clickHouseCode == 209)
        #expect(failure.message.contains("SOCKET_TIMEOUT"))
    }

    @Test func exceptionBehindA200() {
        let body = "\r\n__exception__\r\nabc\r\nCode: 241. DB::Exception: Memory limit\r\n40 abc\r\n__exception__\r\n"
        let failure = answer(200, body: body).failure(ErrorClasses())
        #expect(failure.clickHouseCode == 241)
        #expect(failure.failureClass == .batchShape)
        #expect(answer(200, body: "<html>").failure(ErrorClasses()).failureClass == .transient)
    }

    @Test(
        arguments: [
            ("Code: 27. DB::Exception", 27), ("Code: 27, e.displayText() = x", 27), ("x Code: y Code: 5. DB", 5),
            ("Code: 27", nil), ("Code: . x", nil), ("code 27.", nil), ("", nil), ("Code: 99999999999999999999. x", nil),
        ] as [(String, Int?)])
    func codeInTheBody(text: String, code: Int?) {
        #expect(ServerAnswer.exceptionCode(in: text) == code)
    }

    @Test(
        arguments: [
            ("(at row 1)", 1), ("x (at row 17)\n(at row 18)", 17), ("(at row 0)", nil), ("(at row x)", nil),
            ("(at row 5", nil),
            ("(at row -5)", nil), ("", nil),
        ] as [(String, Int?)])
    func rowInTheBody(text: String, row: Int?) {
        #expect(ServerAnswer.rowHint(in: text) == row)
    }

    @Test func messagesAreBoundedAndValid() {
        var answer = answer(500)
        let bytes =
            Array("Code: 6. DB::Exception: ".utf8) + Array(repeating: [0xFF, 0xE6, 0x97], count: 30_000).flatMap { $0 }
        bytes.withUnsafeBytes { answer.appendBody($0) }
        #expect(answer.body.count == ServerAnswer.keptBodyBytes)
        let message = answer.failure(ErrorClasses()).message
        #expect(message.utf8.count <= Limits.errorMessageBytes)
        #expect(message.utf8.count > Limits.errorMessageBytes - 4)
        #expect(message.hasPrefix("Code: 6."))
        let wide = ServerAnswer.bounded("a" + String(repeating: "日", count: 3_000))
        #expect(wide.utf8.count <= Limits.errorMessageBytes && wide.last == "日")
    }

    @Test func aStatusLineBeginsAnotherAnswer() {
        let answer = answer(100, headers: ["X-ClickHouse-Exception-Code: 1", "", "HTTP/1.1 200 OK"])
        #expect(answer.isInsertSuccess)
    }
}

struct ErrorClassesTests {
    /// The table as the project's documentation has it.
    private static let documented: [FailureClass: [Int]] = [
        .rowData: [
            6, 19, 25, 26, 27, 32, 33, 38, 41, 50, 53, 62, 69, 70, 72, 92, 117, 128, 130, 131, 190, 321, 349, 376, 407,
            441, 444, 467, 469, 563,
        ],
        .configuration: [8, 16, 47, 56, 60, 73, 81, 115, 164, 192, 193, 194, 195, 291, 452, 497, 511, 512, 516],
        .batchShape: [158, 229, 241, 307, 565],
        .transient: [
            159, 198, 201, 202, 203, 209, 210, 225, 236, 242, 243, 244, 252, 254, 265, 279, 285, 286, 289, 297, 319,
            364, 384, 425, 439, 473, 574, 999, 1000,
        ],
    ]

    @Test(arguments: FailureClass.allCases)
    func knowsEachCode(failureClass: FailureClass) throws {
        for code in try #require(Self.documented[failureClass]) {
            for status in [200, 400, 500] {
                #expect(
                    ErrorClasses().failureClass(code: code, httpStatus: status, namesRow: true) == failureClass,
                    "code \(code)")
            }
            #expect(ErrorClasses.name(of: code) != nil)
        }
    }

    @Test func ambiguousCodesAreDataErrorsOnlyWithARow() {
        let classes = ErrorClasses()
        for (code, failureClass) in [33: FailureClass.transient, 50: .configuration, 62: .configuration] {
            #expect(classes.failureClass(code: code, httpStatus: 400, namesRow: true) == .rowData)
            #expect(classes.failureClass(code: code, httpStatus: 400, namesRow: false) == failureClass)
        }
    }

    @Test func unknownCodesGoByStatus() {
        let classes = ErrorClasses()
        #expect(classes.failureClass(code: 77_777, httpStatus: 400, namesRow: false) == .rowData)
        #expect(classes.failureClass(code: 77_777, httpStatus: 499, namesRow: false) == .rowData)
        #expect(classes.failureClass(code: 77_777, httpStatus: 500, namesRow: false) == .transient)
        #expect(classes.failureClass(code: 77_777, httpStatus: 200, namesRow: false) == .transient)
    }

    @Test func overridesWin() {
        let classes = ErrorClasses(overrides: [117: .configuration, 33: .batchShape, 77_777: .transient])
        #expect(classes.failureClass(code: 117, httpStatus: 400, namesRow: true) == .configuration)
        #expect(classes.failureClass(code: 33, httpStatus: 400, namesRow: false) == .batchShape)
        #expect(classes.failureClass(code: 77_777, httpStatus: 400, namesRow: false) == .transient)
    }

    @Test(arguments: [
        (302, FailureClass.configuration), (400, .rowData), (401, .configuration), (403, .configuration),
        (404, .configuration), (408, .transient), (413, .batchShape), (422, .rowData), (429, .transient),
        (500, .transient), (502, .transient), (503, .transient), (200, .transient),
    ])
    func answersWithoutACode(status: Int, failureClass: FailureClass) {
        #expect(ErrorClasses().failureClass(httpStatus: status) == failureClass)
    }
}
