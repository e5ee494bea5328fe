/// Messages from the moment that they were taken until they are answered. Pure: no Kafka, no clock, no thread.
///
///     waiting --> in flight --> (answered)
///                     |
///                     | an error that may be another message's fault
///                     v
///                 suspects --> in flight alone --> (answered)
///
/// A broker refuses a request as a whole: with a message that is too large, or because they are too large together.
/// Whose fault it was shows when each is sent alone, while all others wait.
struct ProducerQueue<Message> {
    private struct Flight {
        let message: Message
        let sentAt: UInt64
        let isAlone: Bool
    }

    private var waiting: [Message] = []
    /// Index of the first in `waiting`.
    private var head = 0
    private var suspects: [Message] = []
    private var flights: [UInt64: Flight] = [:]
    private var lastNumber: UInt64 = 0
    private var aloneNumber: UInt64?

    /// Whether nothing is waiting or in flight.
    var isEmpty: Bool { head == waiting.count && suspects.isEmpty && flights.isEmpty }

    var inFlightCount: Int { flights.count }

    /// When the message that has been in flight longest was sent, nanoseconds.
    var oldestSentAt: UInt64? { flights.values.lazy.map(\.sentAt).min() }

    /// Takes a message.
    mutating func append(_ message: Message) { waiting.append(message) }

    /// The message to send now, if there is one; it counts as in flight from here on, under a number of its own.
    mutating func takeNext(now: UInt64) -> (number: UInt64, message: Message)? {
        guard aloneNumber == nil else { return nil }
        let message: Message
        let isAlone = !suspects.isEmpty
        if isAlone {
            guard flights.isEmpty else { return nil }
            message = suspects.removeFirst()
        } else {
            guard head < waiting.count else { return nil }
            message = waiting[head]
            head += 1
            if head == waiting.count || head >= 1_024 {
                waiting.removeFirst(head)
                head = 0
            }
        }
        lastNumber += 1
        if isAlone { aloneNumber = lastNumber }
        flights[lastNumber] = Flight(message: message, sentAt: now, isAlone: isAlone)
        return (lastNumber, message)
    }

    /// The message is not in flight any more.
    /// - Returns: the message, and whether an error can only be its own fault; `nil` if it is not known here.
    mutating func land(_ number: UInt64) -> (message: Message, wasAlone: Bool)? {
        guard let flight = flights.removeValue(forKey: number) else { return nil }
        if aloneNumber == number { aloneNumber = nil }
        return (flight.message, flight.isAlone)
    }

    /// Sends a message that has landed again, alone.
    mutating func suspect(_ message: Message) { suspects.append(message) }

    /// Removes what is in flight, in order.
    mutating func removeInFlight() -> [Message] {
        defer {
            flights = [:]
            aloneNumber = nil
        }
        return flights.sorted { $0.key < $1.key }.map(\.value.message)
    }

    /// Removes everything, in order.
    mutating func removeAll() -> [Message] {
        let messages = removeInFlight() + suspects + waiting[head...]
        waiting = []
        head = 0
        suspects = []
        return messages
    }
}
